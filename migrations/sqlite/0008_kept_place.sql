-- Where the files of kept checkpoints lie: one row at most.
CREATE TABLE kept_place (place TEXT NOT NULL) STRICT;
