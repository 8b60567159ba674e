-- Number of the attempt whose checkpoint an attempt began after; NULL at the beginning, at a fork, and
-- until it is known.
ALTER TABLE attempt ADD COLUMN resume_attempt INTEGER;

-- Only a worker's own checkpoints are where it begins.
UPDATE attempt SET resume_attempt =
    (SELECT max(writer.number) FROM checkpoint
     JOIN attempt writer ON writer.attempt_no = checkpoint.attempt_no
     WHERE checkpoint.run_no = attempt.run_no AND checkpoint.step = attempt.resume_step
         AND checkpoint.worker_no = attempt.worker_no AND writer.number < attempt.number)
WHERE resume_step > 0;
