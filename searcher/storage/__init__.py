"""Object stores (S3, Google Cloud Storage, ..) as places of data sets and of studies' files. Alone imports pyarrow."""
