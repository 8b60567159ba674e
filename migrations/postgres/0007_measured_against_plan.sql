-- Device-seconds that were predicted for a sweep when it was handed in.
ALTER TABLE sweep ADD COLUMN planned_seconds DOUBLE PRECISION;

-- What the canary of a device found: last of all, and before each attempt.
ALTER TABLE device ADD COLUMN canary TEXT;
ALTER TABLE attempt ADD COLUMN canary TEXT;
