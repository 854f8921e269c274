"""The estimators on tables beside other libraries' models: data sets, models, the contest, and its report."""
