DROP TABLE notes;
DROP TABLE approvals;
DROP TABLE turns;
DROP TABLE jobs;
DROP TABLE deliveries;
