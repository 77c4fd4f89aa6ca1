from genmodels.figures.dataset import Survey as DatasetStatistics

DatasetStatistics.describe = DatasetStatistics.in_words
