"""What lies elsewhere than in folders: addresses in the cloud, and copies that can be made again.

The folder `stores` has a module for each kind of store.

addresses: Address, RemotePath, address_of, as_place, full_name, is_remote, without_secrets
objects: Object, State, look_up, put_bytes, put_file, put_new, read_object, remove, require_writable
listing: Listing, is_listed, learn, list_below, states_of, told
options: FEATURES, FILE, PLACE, TEXT
fetching: fetch, fetch_folder, file_sha256, kept, named, require_free_disk
working_copy: WorkingCopy, is_there, written
user_cache: user_cache
Within the room: filesystems
"""
