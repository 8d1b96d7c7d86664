"""The artifact store, in a folder or in a bucket; knows stages and records, and no broker."""
