"""A folder of images: what state each is in, drafts for those that wait, a model of one's own."""
