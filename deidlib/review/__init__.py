"""Review: a person looks at results beside originals and decides, before anything is released."""
