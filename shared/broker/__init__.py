"""The broker: how it is reached, its keys, messages and signatures, and the Celery application; knows no pipeline."""
