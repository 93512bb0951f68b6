"""Pages for browsers: Jinja templates in one layout, with the files they need from this server alone."""
