"""Campaigns of the real code on a virtual cluster in virtual time."""
