"""Files: opened, read and written so that nothing given can hang, fill or escape; knows errors and text alone."""
