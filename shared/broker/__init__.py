"""The broker: how to reach it, its keys, messages and signatures, and the Celery application; knows settings alone."""
