BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE searcher_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT searcher_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "searcher_alembic_version" VALUES('0001');
CREATE TABLE searcher_checkpoints (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	kind VARCHAR(10) NOT NULL, 
	epoch INTEGER NOT NULL, 
	uri TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	num_bytes BIGINT NOT NULL, 
	value DOUBLE, 
	recorded_at DATETIME NOT NULL, 
	CONSTRAINT pk_searcher_checkpoints PRIMARY KEY (id), 
	CONSTRAINT uq_searcher_checkpoints_study_id UNIQUE (study_id, trial, kind), 
	CONSTRAINT fk_searcher_checkpoints_study_id FOREIGN KEY(study_id) REFERENCES searcher_studies (id)
);
INSERT INTO "searcher_checkpoints" VALUES(1,1,0,'last',4,'tiny/trial-0000/last.pt','96c0166072606b7888fadbfd19d7a3d73a4e207eceeb05ef5a08a6c04470eb84',91165,6.54129475355148315429e-01,'2026-11-23 08:51:56.525014');
INSERT INTO "searcher_checkpoints" VALUES(2,1,0,'best',4,'tiny/trial-0000/best.pt','96c0166072606b7888fadbfd19d7a3d73a4e207eceeb05ef5a08a6c04470eb84',91165,6.54129475355148315429e-01,'2026-11-23 08:51:56.526095');
INSERT INTO "searcher_checkpoints" VALUES(3,1,1,'last',1,'tiny/trial-0001/last.pt','f2205dc96d1ab83280626959ea9c0471b1806fc75fb547db3cf90e2c74d3a873',64813,0.758881077170372,'2026-11-23 08:51:56.669289');
INSERT INTO "searcher_checkpoints" VALUES(4,1,1,'best',1,'tiny/trial-0001/best.pt','f2205dc96d1ab83280626959ea9c0471b1806fc75fb547db3cf90e2c74d3a873',64813,0.758881077170372,'2026-11-23 08:51:56.670640');
INSERT INTO "searcher_checkpoints" VALUES(5,1,2,'last',1,'tiny/trial-0002/last.pt','a3f13f4fa0fca9f29eabc82c2aa7dec2f8dd3b973cbec9d3a17bed8a516afdcd',91165,0.760065883398056,'2026-11-23 08:51:56.765940');
INSERT INTO "searcher_checkpoints" VALUES(6,1,2,'best',1,'tiny/trial-0002/best.pt','a3f13f4fa0fca9f29eabc82c2aa7dec2f8dd3b973cbec9d3a17bed8a516afdcd',91165,0.760065883398056,'2026-11-23 08:51:56.767044');
CREATE TABLE searcher_epochs (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	metrics JSON NOT NULL, 
	recorded_at DATETIME NOT NULL, 
	CONSTRAINT pk_searcher_epochs PRIMARY KEY (id), 
	CONSTRAINT uq_searcher_epochs_study_id UNIQUE (study_id, trial, epoch), 
	CONSTRAINT fk_searcher_epochs_study_id FOREIGN KEY(study_id) REFERENCES searcher_studies (id)
);
INSERT INTO "searcher_epochs" VALUES(1,1,0,1,'{"train_loss": 0.7486721873283386, "lr": 0.006186400138653797, "train_images_per_s": 56.38869182017735, "loss": 0.747463583946228, "object_f1": 0.024096385542168676, "object_dice": 0.20149645745810066, "object_hausdorff": 35.857575467052264, "pixel_dice": 0.3953058321479374, "eval_s": 0.0382530780000252, "epoch_s": 0.18082078800000545}','2026-11-23 08:51:56.297285');
INSERT INTO "searcher_epochs" VALUES(2,1,0,2,'{"train_loss": 0.7074205577373505, "lr": 0.004446137522203468, "train_images_per_s": 332.2884108899799, "loss": 0.7230464220046997, "object_f1": 0.0, "object_dice": 0.30853866289987586, "object_hausdorff": 32.20053534828405, "pixel_dice": 0.4347764572722128, "eval_s": 0.022242381000069145, "epoch_s": 0.047177772000054574}','2026-11-23 08:51:56.373661');
INSERT INTO "searcher_epochs" VALUES(3,1,0,3,'{"train_loss": 0.6834011971950531, "lr": 0.0019850345279285257, "train_images_per_s": 334.85041499512306, "loss": 0.6731151193380356, "object_f1": 0.08571428571428572, "object_dice": 0.4393373929075358, "object_hausdorff": 31.841429899300046, "pixel_dice": 0.5373825762450135, "eval_s": 0.02388030899999194, "epoch_s": 0.04864225999995142}','2026-11-23 08:51:56.447088');
INSERT INTO "searcher_epochs" VALUES(4,1,0,4,'{"train_loss": 0.6786205470561981, "lr": 0.0002447719114781969, "train_images_per_s": 343.10447707087934, "loss": 0.6541294753551483, "object_f1": 0.22857142857142856, "object_dice": 0.7211660978999024, "object_hausdorff": 30.161291266505735, "pixel_dice": 0.8525377545836604, "eval_s": 0.02399775399999271, "epoch_s": 0.04826407300004121}','2026-11-23 08:51:56.519199');
INSERT INTO "searcher_epochs" VALUES(5,1,1,1,'{"train_loss": 0.7515432238578796, "lr": 0.008333553308644654, "train_images_per_s": 367.5287098498292, "loss": 0.758881077170372, "object_f1": 0.0, "object_dice": 0.18436734282146144, "object_hausdorff": 36.67593076865067, "pixel_dice": 0.3576035545363337, "eval_s": 0.027688737999937985, "epoch_s": 0.05014790500001709}','2026-11-23 08:51:56.663714');
INSERT INTO "searcher_epochs" VALUES(6,1,2,1,'{"train_loss": 0.751478374004364, "lr": 0.001359791854045746, "train_images_per_s": 344.8041038587832, "loss": 0.760065883398056, "object_f1": 0.0, "object_dice": 0.16926471127355988, "object_hausdorff": 36.937854015444074, "pixel_dice": 0.34701411509229096, "eval_s": 0.02094921900004465, "epoch_s": 0.04481110099993657}','2026-11-23 08:51:56.760761');
CREATE TABLE searcher_launches (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	process_started DOUBLE NOT NULL, 
	started_at DATETIME NOT NULL, 
	renewed_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	outcome VARCHAR(20), 
	versions JSON NOT NULL, 
	git_revision VARCHAR(64), 
	CONSTRAINT pk_searcher_launches PRIMARY KEY (id), 
	CONSTRAINT fk_searcher_launches_study_id FOREIGN KEY(study_id) REFERENCES searcher_studies (id)
);
INSERT INTO "searcher_launches" VALUES(1,1,'vm',2177,1795423881.48,'2026-11-23 08:51:29.794652','2026-11-23 08:51:49.803121','2026-11-23 08:51:59.786399','finished','{"python": "3.11.7", "gland-searcher": "0.1.0", "torch": "2.15.0", "torchvision": "0.29.2", "ray": "2.60.0", "optuna": "5.0.0", "albumentations": "2.0.8", "numpy": "2.4.6", "sqlalchemy": "2.1.9"}','b810202b31e2d8e6d7fc5829edb33d2d94b4e41f');
CREATE TABLE searcher_studies (
	id INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	objective VARCHAR(50) NOT NULL, 
	budget INTEGER NOT NULL, 
	spec_text TEXT NOT NULL, 
	identity JSON NOT NULL, 
	data_fingerprint VARCHAR(64) NOT NULL, 
	data_source TEXT NOT NULL, 
	storage_root TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_searcher_studies PRIMARY KEY (id), 
	CONSTRAINT uq_searcher_studies_name UNIQUE (name)
);
INSERT INTO "searcher_studies" VALUES(1,'tiny','loss',3,'
[study]
name = "tiny"
objective = "loss"
trials = 3
[search]
sampler = "random"
[pruner]
grace_epochs = 1
reduction_factor = 2
[resources]
max_concurrent = 2
[data]
synthetic_images = 12
synthetic_size_px = 64
num_threads = 0
val_fraction = 0.3
[augment]
preset = "none"
crop_px = 64
[model]
base_channels = 2
depth = 2
norm = "batch"
[train]
epochs = 4
batch_size = 4
[space.optimizer]
name = { choices = ["sgd", "adamw"] }
lr = { low = 1e-4, high = 1e-1, log = true }
momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
','{"study.objective": "loss", "data.val_fraction": 0.3, "data.folds": 0, "data.fold": 0, "data.split_seed": 0, "data.samples_per_epoch": 0, "data.num_threads": 0, "data.synthetic_images": 12, "data.synthetic_size_px": 64, "data.synthetic_seed": 0, "augment.preset": "none", "augment.crop_px": 64, "augment.strength": 1.0, "model.name": "unet", "model.base_channels": 2, "model.depth": 2, "model.norm": "batch", "model.dropout": 0.0, "model.upsampling": "transposed", "model.head": "binary", "model.loss": "bce", "postprocess.threshold": 0.5, "postprocess.min_object_area_px": 0, "postprocess.fill_holes": true, "optimizer.weight_decay": 0.0, "optimizer.nesterov": false, "schedule.name": "cosine", "schedule.warmup_epochs": 0.0, "schedule.min_lr_fraction": 0.0, "schedule.plateau_patience": 5, "schedule.plateau_factor": 0.5, "train.epochs": 4, "train.batch_size": 4, "train.grad_clip_norm": 0.0, "train.ema_decay": 0.0, "train.early_stop_patience": 0, "train.precision": "auto", "train.compile": false, "train.eval_tile_px": 0, "train.eval_tile_overlap_px": 64, "train.seed": 0, "space.optimizer.name": {"range": "''sgd'' | ''adamw''", "when": []}, "space.optimizer.lr": {"range": "0.0001 .. 0.1 log", "when": []}, "space.optimizer.momentum": {"range": "0.0 .. 0.9", "when": ["optimizer.name = ''sgd''"]}}','07ab63072a8dc92b93a8c038e2e190c3a00b5e233d2688cdafbd0f0080b776fd','synthetic glands','/somewhere/runs','2026-11-23 08:51:29.752615');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'tiny');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,0.747463583946228,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,7.23046422004699707031e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,1,3,6.73115119338035583496e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,1,4,6.54129475355148315429e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,2,1,0.758881077170372,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,3,1,0.760065883398056,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'optimizer.name',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(2,1,'optimizer.lr',6.43117205013199379898e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(3,2,'optimizer.name',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(4,2,'optimizer.lr',8.66327976135456215289e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(5,2,'optimizer.momentum',3.93828490136423292611e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.9, "log": false}}');
INSERT INTO "trial_params" VALUES(6,3,'optimizer.name',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(7,3,'optimizer.lr',1.41359355517523140564e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.1, "log": true}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'config_digest','"259bea8a9e9867092fbefed892155e51d4cba1c89f5c65de316dbd77d068831e"');
INSERT INTO "trial_user_attributes" VALUES(2,2,'config_digest','"a7d82b9d9658c749455dcfd29c0619f33c5c4b0a00a3f0dd48b2283c6c2d745e"');
INSERT INTO "trial_user_attributes" VALUES(3,1,'best_epoch','4');
INSERT INTO "trial_user_attributes" VALUES(4,1,'stop_reason','"epochs"');
INSERT INTO "trial_user_attributes" VALUES(5,3,'config_digest','"b72d3931b4e08bfa32a7edc9407ed59ff1a0994c02e878cd4654a28b26f79b3c"');
INSERT INTO "trial_user_attributes" VALUES(6,2,'pruned_epoch','1');
INSERT INTO "trial_user_attributes" VALUES(7,2,'stop_reason','"scheduler"');
INSERT INTO "trial_user_attributes" VALUES(8,3,'pruned_epoch','1');
INSERT INTO "trial_user_attributes" VALUES(9,3,'stop_reason','"scheduler"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,6.54129475355148315429e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,0.758881077170372,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,0.760065883398056,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-23 08:51:36.445932','2026-11-23 08:51:56.540423');
INSERT INTO "trials" VALUES(2,1,1,'PRUNED','2026-11-23 08:51:48.992672','2026-11-23 08:51:56.681011');
INSERT INTO "trials" VALUES(3,2,1,'PRUNED','2026-11-23 08:51:56.566286','2026-11-23 08:51:56.776339');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE INDEX ix_searcher_launches_study_id ON searcher_launches (study_id);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
