"""Files kept beyond one node: on a shared folder or in object storage, named by one URL. Only here is fsspec known."""
