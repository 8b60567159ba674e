-- Whether the coordinator keeps the files of a checkpoint too, so that any worker can resume from it.
ALTER TABLE checkpoint ADD COLUMN kept INTEGER NOT NULL DEFAULT 0 CHECK (kept IN (0, 1));

-- Workers that were sent to fetch a kept checkpoint: a copy of it lies there, under the attempt that
-- wrote it.
CREATE TABLE checkpoint_copy (
    run_no INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempt_no INTEGER NOT NULL,
    worker_no INTEGER NOT NULL REFERENCES worker,
    PRIMARY KEY (run_no, step, attempt_no, worker_no),
    FOREIGN KEY (run_no, step, attempt_no) REFERENCES checkpoint
) STRICT, WITHOUT ROWID;
