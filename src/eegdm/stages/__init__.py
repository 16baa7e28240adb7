"""The five stages, one file each: Config -> the folder it wrote."""
