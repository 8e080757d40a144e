"""The SQL study database: engine, tables, migrations, Optuna storage, lease."""
