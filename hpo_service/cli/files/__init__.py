"""Commands about the files that studies leave."""
