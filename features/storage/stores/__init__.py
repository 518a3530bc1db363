"""What each kind of store is asked, and how: one module a kind, all with the same six functions.

base: IDENTITY, PASSING, Object, Page, State, Store, answered, parted, require_small, whole
azure, google, s3, web: look_up, read, download, page, put, remove
"""
