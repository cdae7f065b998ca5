"""What is wrong with a model, a machine or a site, found before a campaign spends GPU-hours on it."""
