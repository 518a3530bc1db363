"""Where image files lie: in folders, archives, HDF5 files and lists, read by one name each.

A name such as `folder/archive.zip/train/1.jpg` leads into an archive; whoever reads images by
`read_file`, or lists what is to be read by `open_source`, need not know which it is.
"""
