DROP TABLE journal;
DROP TABLE runs;
