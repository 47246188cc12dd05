"""How tables, images and results lie on disk: schemas, sealed Parquet, PNG, provenance."""
