"""Advice on what lies on this machine or in the database: logs, models, studies."""
