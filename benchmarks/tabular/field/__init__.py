"""The estimators among the field: twelve tables with their kinds of columns, and the models that are best on tables."""
