"""The frozen base that trials share, its tokenizer, and what is trained on top of it."""
