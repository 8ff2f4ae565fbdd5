-- What the databases of a rehearsed instrument hold: a little of everything that a dump must bring along.
CREATE DATABASE alarm;
CREATE DATABASE archive;
CREATE DATABASE exp_data;
CREATE DATABASE iocdb;
CREATE DATABASE journal;
CREATE DATABASE msg_log;

CREATE TABLE alarm.alarm_tree (component_id INT PRIMARY KEY AUTO_INCREMENT, parent_id INT, name VARCHAR(80) NOT NULL);
INSERT INTO alarm.alarm_tree (parent_id, name) VALUES (NULL, 'Instrument'), (1, 'Motors'), (1, 'Temperatures');

CREATE TABLE archive.sample (channel_id INT, smpl_time DATETIME, nanosecs INT, float_val DOUBLE, str_val VARCHAR(120) CHARACTER SET utf8mb4,
  PRIMARY KEY (channel_id, smpl_time, nanosecs));
INSERT INTO archive.sample
  WITH RECURSIVE seq (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM seq WHERE n < 999)
  SELECT n MOD 20, '2026-01-01' + INTERVAL n MINUTE, 0, n / 7, IF(n MOD 50, NULL, CONCAT('Å \\ '' ', n)) FROM seq;

CREATE TABLE exp_data.experiment (experimentID VARCHAR(10), startDate DATETIME, duration INT, PRIMARY KEY (experimentID, startDate));
INSERT INTO exp_data.experiment VALUES ('RB2610001', '2026-02-01 08:30:00', 2), ('RB2610002', '2026-02-03 08:30:00', 3);

CREATE TABLE iocdb.iocs (iocname VARCHAR(50) PRIMARY KEY, running TINYINT NOT NULL, exe_path VARCHAR(255));
CREATE TABLE iocdb.iocrt (iocname VARCHAR(50) PRIMARY KEY, pid INT NOT NULL, start_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO iocdb.iocs VALUES ('GALIL_01', 1, 'ioc/master/GALIL'), ('EUROTHRM_01', 0, 'ioc/master/EUROTHRM'), ('LKSH218_01', 1, NULL);
CREATE VIEW iocdb.up AS SELECT iocname FROM iocdb.iocs WHERE running;

CREATE TABLE journal.journal_entries (run_number INT PRIMARY KEY, title VARCHAR(255), good_frames INT);
INSERT INTO journal.journal_entries VALUES (12344, 'Silver behenate', 36000), (12345, 'Empty beam', 18000);

CREATE TABLE msg_log.message (id BIGINT PRIMARY KEY AUTO_INCREMENT, createTime DATETIME, contents TEXT);
INSERT INTO msg_log.message (createTime, contents) VALUES ('2026-02-01 08:31:00', 'run 12345 begun'), ('2026-02-01 09:31:00', 'run 12345 ended');
CREATE TRIGGER iocdb.told AFTER UPDATE ON iocdb.iocs FOR EACH ROW
  INSERT INTO msg_log.message (createTime, contents) VALUES (NOW(), CONCAT(NEW.iocname, ' changed'));

CREATE USER 'iocdb'@'localhost' IDENTIFIED BY '$iocdb';
GRANT SELECT, INSERT, UPDATE, DELETE ON iocdb.* TO 'iocdb'@'localhost';
CREATE USER 'report'@'%' IDENTIFIED BY '$report';
GRANT SELECT ON archive.* TO 'report'@'%';
