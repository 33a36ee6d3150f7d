"""The command line `hyper`: a thin client of hyperd that starts quickly."""
