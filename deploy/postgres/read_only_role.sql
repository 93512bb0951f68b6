-- A role that may read the views of hpo-service and change nothing.
--
--     psql "postgresql://hpo@db/hpo" -f deploy/postgres/read_only_role.sql
--     psql "postgresql://hpo@db/hpo" -c "CREATE ROLE alice LOGIN PASSWORD '...' IN ROLE hpo_reader"
--
-- Run it as the owner of the tables, who must be allowed to create roles. Running it again changes nothing; run it again
-- after `hpo-service db upgrade`, which may have brought new views. Tables are left out on purpose: the views hold no secrets.

DO $$
DECLARE
    found record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'hpo_reader') THEN
        CREATE ROLE hpo_reader NOLOGIN;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO hpo_reader', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO hpo_reader', current_schema());
    FOR found IN
        SELECT schemaname, viewname FROM pg_catalog.pg_views
        WHERE schemaname = current_schema() AND viewname LIKE 'v\_%' AND viewowner = current_user
    LOOP
        EXECUTE format('GRANT SELECT ON %I.%I TO hpo_reader', found.schemaname, found.viewname);
    END LOOP;
END
$$;
