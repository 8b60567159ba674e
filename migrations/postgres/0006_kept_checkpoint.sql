-- Whether the coordinator keeps the files of a checkpoint too, so that any worker can resume from it.
ALTER TABLE checkpoint ADD COLUMN kept BOOLEAN NOT NULL DEFAULT FALSE;

-- Workers that were sent to fetch a kept checkpoint: a copy of it lies there, under the attempt that
-- wrote it.
CREATE TABLE checkpoint_copy (
    run_no BIGINT NOT NULL,
    step BIGINT NOT NULL,
    attempt_no BIGINT NOT NULL,
    worker_no BIGINT NOT NULL REFERENCES worker,
    PRIMARY KEY (run_no, step, attempt_no, worker_no),
    FOREIGN KEY (run_no, step, attempt_no) REFERENCES checkpoint
);
