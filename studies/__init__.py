"""Study files (TOML) shipped with the package."""
