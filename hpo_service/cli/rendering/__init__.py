"""What commands print, drawn with rich."""
