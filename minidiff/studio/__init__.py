"""The studio: a local web page on which pictures are drawn step by step, watched, stopped, and gone on with."""
