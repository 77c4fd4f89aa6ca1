"""The report of a sweep, from the run folders alone: `python -m genmodels.report FOLDER...`"""
