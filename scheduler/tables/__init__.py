"""Tables: results, plans, pipelines and labels for people who read them in a terminal."""
