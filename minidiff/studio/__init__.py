"""The studio: a local web page on which pictures are drawn, stopped, changed and drawn on."""
