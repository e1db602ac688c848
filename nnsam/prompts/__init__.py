"""Box prompts: reading and checking them, drawing them from masks, and what a network sees of them."""
