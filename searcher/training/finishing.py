"""What is done once a trial is trained: its post-processing is tuned, and its worst images are drawn."""

import logging
from collections.abc import Callable, Sequence

import torch

from searcher.data_pipeline.store import Store
from searcher.extras import is_installed
from searcher.inference.tuning import Tuned
from searcher.report.pictures import NO_CURVE
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.alive import Alive
from searcher.training.checkpoint_tuning import tune_checkpoint
from searcher.training.failures import diagnose
from searcher.training.randomness import RandomState
from searcher.training.run_folder import RunFolder

__all__ = ["Finishing"]

logger = logging.getLogger(__name__)


class Finishing:
    """Tunes post-processing for the best checkpoint of a trained trial and draws its worst images, each once.

    A failure of either does not fail the trial: it is logged and kept in `tuning_problem` or `pictures_problem`.

    Args:
        config: The trial's configuration.
        objective: Metric by which the best checkpoint was chosen.
        store: The normalised images.
        folder: Folder of the run.
        device: Device for the network, which is built again.
        random: The trial's random state. Building a model draws weights, which are then replaced.
        alive: Called with the next step.
        free_memory: Called before a network is built.
    """

    def __init__(
        self,
        config: TrialConfig,
        objective: Objective,
        store: Store,
        folder: RunFolder,
        *,
        device: torch.device,
        random: RandomState,
        alive: Alive,
        free_memory: Callable[[], None],
    ) -> None:
        self._config = config
        self._objective = objective
        self._store = store
        self._folder = folder
        self._device = device
        self._random = random
        self._alive = alive
        self._free_memory = free_memory
        self._has_drawn = False
        self.tuned: Tuned | None = None
        """How the best checkpoint's output is best cut into instances; None until it is known."""
        self.tuning_problem: str | None = None
        self.pictures: tuple[str, ...] = ()
        """Files in the run's folder."""
        self.pictures_problem: str | None = None

    def tune(self, best_epoch: int) -> None:
        """Tune post-processing for the best checkpoint, and write the settings into that checkpoint.

        Args:
            best_epoch: Number of the best epoch; 0 if the objective never had a value.

        Raises:
            OSError: The disk is full. The study should stop then, and resume later from the last checkpoint.
        """
        if self.tuned is not None or self.tuning_problem is not None:
            return
        if self._folder.best is None:
            if best_epoch:
                self.tuning_problem = "the best checkpoint is lost, and no later epoch beat its value"
            return
        try:
            self._free_memory()
            with self._random.active():
                tuned = tune_checkpoint(
                    self._folder.best,
                    self._config,
                    self._objective,
                    self._store,
                    self._device,
                    alive=self._alive,
                )
            self._alive("files", "writing how the best checkpoint was tuned")
            self._folder.add_to_best(tuned.to_dict())
            self.tuned = tuned
        except Exception as error:  # anything: the trial is trained, and its best checkpoint is whole
            failure = diagnose(error)
            if failure.cause == "disk":
                raise
            logger.exception("post-processing could not be tuned")
            self.tuning_problem = failure.reason

    def draw(self, val_indices: Sequence[int], num_images: int, best_epoch: int) -> None:
        """Draw the validation images with the worst predictions of the best checkpoint, and the learning curve.

        Args:
            val_indices: Indices of the validation images.
            num_images: Number of images to draw.
            best_epoch: Number of the best epoch; 0 if the objective never had a value.
        """
        if self._has_drawn:
            return
        self._has_drawn = True
        try:
            self.pictures = tuple(self._drawn(val_indices, num_images, best_epoch))
        except Exception as error:  # anything: it is only to be looked at
            logger.exception("the trial's pictures could not be drawn")
            self.pictures_problem = diagnose(error).reason

    def _drawn(self, val_indices: Sequence[int], num_images: int, best_epoch: int) -> list[str]:
        if self._folder.best is None:
            return []
        from searcher.training.pictures import draw_learning_curve, draw_worst_images

        self._free_memory()
        folder = self._folder.path
        with self._random.active():
            worst = draw_worst_images(
                self._folder.best,
                self._store,
                val_indices,
                self._device,
                folder,
                num_images=num_images,
                alive=self._alive,
            )
        if not is_installed("plots"):
            logger.warning(NO_CURVE)
            return worst
        return worst + draw_learning_curve(self._folder.history(), folder, best_epoch=best_epoch)
