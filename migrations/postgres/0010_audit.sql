-- Changes that were asked for: when, by whom, which, and what came of it. The newest are kept.
CREATE TABLE audit (
    audit_no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unix_ms BIGINT NOT NULL,
    role TEXT NOT NULL,
    client TEXT,
    address TEXT,
    call TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL
);
