// A store that has been in use for long: leads by the hundred thousand, without posting each.
'use strict';

// Fills a sqlite store that holds at least one lead up with copies of it under other keys, `count` in all.  The keys
// are hashes as far as their distribution goes; they are inserted in order, which is fast.  What is left to do of it is
// done here, and not by the next to write.
function fill(bench, count) {
  bench.sqlite(`PRAGMA synchronous = OFF;
    CREATE TEMP TABLE sample AS SELECT * FROM entity WHERE kind = 0 AND row_key NOT LIKE '~%' LIMIT 1;
    WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < ${count})
    INSERT INTO entity SELECT kind, partition_key,
      printf('%08x', i * (4294967295 / ${count})) || lower(hex(randomblob(12)) || '-' || hex(randomblob(16))),
      version, written_ms, properties FROM number, sample;
    PRAGMA wal_checkpoint(TRUNCATE);`);
}

module.exports = { fill };
