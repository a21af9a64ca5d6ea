--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: vector; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;


--
-- Name: EXTENSION vector; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';


--
-- Name: procrastinate_job_event_type; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.procrastinate_job_event_type AS ENUM (
    'deferred',
    'started',
    'deferred_for_retry',
    'failed',
    'succeeded',
    'cancelled',
    'abort_requested',
    'aborted',
    'scheduled',
    'retried'
);


--
-- Name: procrastinate_job_status; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.procrastinate_job_status AS ENUM (
    'todo',
    'doing',
    'succeeded',
    'failed',
    'cancelled',
    'aborting',
    'aborted'
);


--
-- Name: procrastinate_job_to_defer_v1; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.procrastinate_job_to_defer_v1 AS (
	queue_name character varying,
	task_name character varying,
	priority integer,
	lock text,
	queueing_lock text,
	args jsonb,
	scheduled_at timestamp with time zone
);


--
-- Name: count_job_items(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.count_job_items() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO job_counts
                SELECT job_id, state, count(*) FROM new_items
                GROUP BY job_id, state ORDER BY job_id, state
                ON CONFLICT (job_id, state)
                DO UPDATE SET number = job_counts.number + excluded.number;
            ELSE
                INSERT INTO job_counts
                SELECT job_id, state, sum(change) FROM (
                    SELECT job_id, state, 1 AS change FROM new_items
                    UNION ALL SELECT job_id, state, -1 FROM old_items
                ) AS changes
                GROUP BY job_id, state HAVING sum(change) <> 0 ORDER BY job_id, state
                ON CONFLICT (job_id, state)
                DO UPDATE SET number = job_counts.number + excluded.number;
            END IF;
            RETURN NULL;
        END $$;


--
-- Name: image_words(text, text, text, text[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.image_words(url text, title text, description text, tags text[]) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
        DECLARE
            joins constant text := '_-./\+';
            named text := title || ' ' || array_to_string(tags, ' ');
            file text := regexp_replace(split_part(split_part(url, '#', 1), '?', 1), '^.*/', '');
        BEGIN
            named := translate(named, joins, '      ');
            description := translate(description, joins, '      ');
            file := translate(regexp_replace(file, '%[0-9A-Fa-f]{2}', ' ', 'g'), joins, '      ');
            IF url LIKE 'upload:%' THEN
                file := '';
            END IF;
            RETURN setweight(to_tsvector('english', named), 'A')
                || setweight(to_tsvector('simple', named), 'A')
                || setweight(to_tsvector('english', description), 'B')
                || setweight(to_tsvector('simple', description), 'B')
                || setweight(to_tsvector('english', file), 'C')
                || setweight(to_tsvector('simple', file), 'C');
        END $$;


--
-- Name: procrastinate_cancel_job_v1(bigint, boolean, boolean); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        IF abort THEN
            UPDATE procrastinate_jobs
            SET abort_requested = true,
                status = CASE status
                    WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status
                END
            WHERE id = job_id AND status IN ('todo', 'doing')
            RETURNING id INTO _job_id;
        ELSE
            UPDATE procrastinate_jobs
            SET status = 'cancelled'::procrastinate_job_status
            WHERE id = job_id AND status = 'todo'
            RETURNING id INTO _job_id;
        END IF;
    END IF;
    RETURN _job_id;
END;
$$;


--
-- Name: procrastinate_defer_jobs_v1(public.procrastinate_job_to_defer_v1[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_defer_jobs_v1(jobs public.procrastinate_job_to_defer_v1[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    job_ids bigint[];
BEGIN
    WITH inserted_jobs AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT (job).queue_name,
               (job).task_name,
               (job).priority,
               (job).lock,
               (job).queueing_lock,
               (job).args,
               (job).scheduled_at
        FROM unnest(jobs) AS job
        RETURNING id
    )
    SELECT array_agg(id) FROM inserted_jobs INTO job_ids;

    RETURN job_ids;
END;
$$;


--
-- Name: procrastinate_defer_periodic_job_v2(character varying, character varying, character varying, character varying, integer, character varying, bigint, jsonb); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_defer_periodic_job_v2(_queue_name character varying, _lock character varying, _queueing_lock character varying, _task_name character varying, _priority integer, _periodic_id character varying, _defer_timestamp bigint, _args jsonb) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
	_job_id bigint;
	_defer_id bigint;
BEGIN
    INSERT
        INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES (_task_name, _periodic_id, _defer_timestamp)
        ON CONFLICT DO NOTHING
        RETURNING id into _defer_id;

    IF _defer_id IS NULL THEN
        RETURN NULL;
    END IF;

    UPDATE procrastinate_periodic_defers
        SET job_id = (
            SELECT COALESCE((
                SELECT unnest(procrastinate_defer_jobs_v1(
                    ARRAY[
                        ROW(
                            _queue_name,
                            _task_name,
                            _priority,
                            _lock,
                            _queueing_lock,
                            _args,
                            NULL::timestamptz
                        )
                    ]::procrastinate_job_to_defer_v1[]
                ))
            ), NULL)
        )
        WHERE id = _defer_id
        RETURNING job_id INTO _job_id;

    DELETE
        FROM procrastinate_periodic_defers
        USING (
            SELECT id
            FROM procrastinate_periodic_defers
            WHERE procrastinate_periodic_defers.task_name = _task_name
            AND procrastinate_periodic_defers.periodic_id = _periodic_id
            AND procrastinate_periodic_defers.defer_timestamp < _defer_timestamp
            ORDER BY id
            FOR UPDATE
        ) to_delete
        WHERE procrastinate_periodic_defers.id = to_delete.id;

    RETURN _job_id;
END;
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: procrastinate_jobs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_jobs (
    id bigint NOT NULL,
    queue_name character varying(128) NOT NULL,
    task_name character varying(128) NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    lock text,
    queueing_lock text,
    args jsonb DEFAULT '{}'::jsonb NOT NULL,
    status public.procrastinate_job_status DEFAULT 'todo'::public.procrastinate_job_status NOT NULL,
    scheduled_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    abort_requested boolean DEFAULT false NOT NULL,
    worker_id bigint,
    CONSTRAINT check_not_todo_abort_requested CHECK ((NOT ((status = 'todo'::public.procrastinate_job_status) AND (abort_requested = true))))
);


--
-- Name: procrastinate_fetch_job_v2(character varying[], bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint) RETURNS public.procrastinate_jobs
    LANGUAGE plpgsql
    AS $$
DECLARE
	found_jobs procrastinate_jobs;
BEGIN
    WITH candidate AS (
        SELECT jobs.*
            FROM procrastinate_jobs AS jobs
            WHERE
                -- reject the job if its lock has earlier or higher priority jobs
                NOT EXISTS (
                    SELECT 1
                        FROM procrastinate_jobs AS other_jobs
                        WHERE
                            jobs.lock IS NOT NULL
                            AND other_jobs.lock = jobs.lock
                            AND (
                                -- job with same lock is already running
                                other_jobs.status = 'doing'
                                OR
                                -- job with same lock is waiting and has higher priority (or same priority but was queued first)
                                (
                                    other_jobs.status = 'todo'
                                    AND (
                                        other_jobs.priority > jobs.priority
                                        OR (
                                        other_jobs.priority = jobs.priority
                                        AND other_jobs.id < jobs.id
                                        )
                                    )
                                )
                            )
                )
                AND jobs.status = 'todo'
                AND (target_queue_names IS NULL OR jobs.queue_name = ANY( target_queue_names ))
                AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            ORDER BY jobs.priority DESC, jobs.id ASC LIMIT 1
            FOR UPDATE OF jobs SKIP LOCKED
    )
    UPDATE procrastinate_jobs
        SET status = 'doing', worker_id = p_worker_id
        FROM candidate
        WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.* INTO found_jobs;

 RETURN found_jobs;
END;
$$;


--
-- Name: procrastinate_finish_job_v1(bigint, public.procrastinate_job_status, boolean); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_finish_job_v1(job_id bigint, end_status public.procrastinate_job_status, delete_job boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status
                WHEN 'doing' THEN attempts + 1 ELSE attempts
            END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
END;
$$;


--
-- Name: procrastinate_notify_queue_abort_job_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_notify_queue_abort_job_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_notify_queue_job_inserted_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_notify_queue_job_inserted_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_prune_stalled_workers_v1(double precision); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision) RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    DELETE FROM procrastinate_workers
    WHERE last_heartbeat < NOW() - (seconds_since_heartbeat || 'SECOND')::INTERVAL
    RETURNING procrastinate_workers.id;
END;
$$;


--
-- Name: procrastinate_register_worker_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_register_worker_v1() RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;
END;
$$;


--
-- Name: procrastinate_retry_job_v1(bigint, timestamp with time zone, integer, character varying, character varying); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_retry_job_v1(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
BEGIN
    SELECT abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status = 'doing'
    FOR UPDATE
    INTO _abort_requested;
    IF _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" status (job id: %)', job_id;
    END IF;
END;
$$;


--
-- Name: procrastinate_retry_job_v2(bigint, timestamp with time zone, integer, character varying, character varying); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_retry_job_v2(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
    _current_status procrastinate_job_status;
BEGIN
    SELECT status, abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status IN ('doing', 'failed')
    FOR UPDATE
    INTO _current_status, _abort_requested;
    IF _current_status = 'doing' AND _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status IN ('doing', 'failed')
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;

END;
$$;


--
-- Name: procrastinate_trigger_abort_requested_events_procedure_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_abort_requested_events_procedure_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'abort_requested'::procrastinate_job_event_type);
    RETURN NEW;
END;
$$;


--
-- Name: procrastinate_trigger_function_scheduled_events_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_function_scheduled_events_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type, at)
        VALUES (NEW.id, 'scheduled'::procrastinate_job_event_type, NEW.scheduled_at);

	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_trigger_function_status_events_insert_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'deferred'::procrastinate_job_event_type);
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_trigger_function_status_events_update_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_function_status_events_update_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    WITH t AS (
        SELECT CASE
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND NEW.status = 'doing'::procrastinate_job_status
                THEN 'started'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'deferred_for_retry'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'failed'::procrastinate_job_status
                THEN 'failed'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'succeeded'::procrastinate_job_status
                THEN 'succeeded'::procrastinate_job_event_type
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND (
                    NEW.status = 'cancelled'::procrastinate_job_status
                    OR NEW.status = 'failed'::procrastinate_job_status
                    OR NEW.status = 'succeeded'::procrastinate_job_status
                )
                THEN 'cancelled'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'aborted'::procrastinate_job_status
                THEN 'aborted'::procrastinate_job_event_type
            WHEN OLD.status = 'failed'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'retried'::procrastinate_job_event_type
            ELSE NULL
        END as event_type
    )
    INSERT INTO procrastinate_events(job_id, type)
        SELECT NEW.id, t.event_type
        FROM t
        WHERE t.event_type IS NOT NULL;
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_unlink_periodic_defers_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_unlink_periodic_defers_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_periodic_defers
    SET job_id = NULL
    WHERE job_id = OLD.id;
    RETURN OLD;
END;
$$;


--
-- Name: procrastinate_unregister_worker_v1(bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_unregister_worker_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM procrastinate_workers
    WHERE id = worker_id;
END;
$$;


--
-- Name: procrastinate_update_heartbeat_v1(bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_update_heartbeat_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_workers
    SET last_heartbeat = NOW()
    WHERE id = worker_id;
END;
$$;


--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: data_builtin_1420c79e; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.data_builtin_1420c79e (
    id bigint NOT NULL,
    text character varying NOT NULL,
    metadata_ jsonb,
    node_id character varying,
    embedding public.halfvec(512),
    labels text[],
    taken_at timestamp with time zone,
    width integer,
    height integer,
    latitude double precision,
    longitude double precision
);


--
-- Name: data_builtin_1420c79e_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.data_builtin_1420c79e_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: data_builtin_1420c79e_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.data_builtin_1420c79e_id_seq OWNED BY public.data_builtin_1420c79e.id;


--
-- Name: encoders; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.encoders (
    name text NOT NULL,
    fingerprint text NOT NULL,
    source text NOT NULL,
    dimensions integer NOT NULL,
    vector_table text NOT NULL,
    used_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: images; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.images (
    id uuid NOT NULL,
    url text NOT NULL,
    sha256 text NOT NULL,
    dhash bigint NOT NULL,
    bytes bigint NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    format text NOT NULL,
    exif jsonb NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    tags text[] NOT NULL,
    thumbnail bytea NOT NULL,
    indexed_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    etag text,
    last_modified text,
    checked_at timestamp with time zone DEFAULT now() NOT NULL,
    gone_at timestamp with time zone,
    words tsvector GENERATED ALWAYS AS (public.image_words(url, title, description, tags)) STORED,
    colours jsonb DEFAULT '[]'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL
);
ALTER TABLE ONLY public.images ALTER COLUMN thumbnail SET STORAGE EXTERNAL;


--
-- Name: job_counts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_counts (
    job_id bigint NOT NULL,
    state text NOT NULL,
    number bigint NOT NULL
);


--
-- Name: job_items; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_items (
    job_id bigint NOT NULL,
    "position" bigint NOT NULL,
    source text NOT NULL,
    url text NOT NULL,
    title text,
    description text,
    tags text[],
    state text DEFAULT 'waiting'::text NOT NULL,
    reason text,
    tries integer DEFAULT 0 NOT NULL,
    not_before timestamp with time zone,
    ended_at timestamp with time zone,
    metadata jsonb
);


--
-- Name: jobs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.jobs (
    id bigint NOT NULL,
    title text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    cancelled_at timestamp with time zone,
    tokens bigint DEFAULT 0 NOT NULL
);


--
-- Name: jobs_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.jobs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: procrastinate_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_events (
    id bigint NOT NULL,
    job_id bigint NOT NULL,
    type public.procrastinate_job_event_type,
    at timestamp with time zone DEFAULT now()
);


--
-- Name: procrastinate_events_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.procrastinate_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: procrastinate_events_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.procrastinate_events_id_seq OWNED BY public.procrastinate_events.id;


--
-- Name: procrastinate_jobs_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.procrastinate_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: procrastinate_jobs_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.procrastinate_jobs_id_seq OWNED BY public.procrastinate_jobs.id;


--
-- Name: procrastinate_periodic_defers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_periodic_defers (
    id bigint NOT NULL,
    task_name character varying(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint,
    periodic_id character varying(128) DEFAULT ''::character varying NOT NULL
);


--
-- Name: procrastinate_periodic_defers_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.procrastinate_periodic_defers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: procrastinate_periodic_defers_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.procrastinate_periodic_defers_id_seq OWNED BY public.procrastinate_periodic_defers.id;


--
-- Name: procrastinate_workers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_workers (
    id bigint NOT NULL,
    last_heartbeat timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: procrastinate_workers_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.procrastinate_workers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.procrastinate_workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: queries; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.queries (
    id uuid NOT NULL,
    picture bytea NOT NULL,
    media_type text NOT NULL,
    sha256 text NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.queries ALTER COLUMN picture SET STORAGE EXTERNAL;


--
-- Name: data_builtin_1420c79e id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.data_builtin_1420c79e ALTER COLUMN id SET DEFAULT nextval('public.data_builtin_1420c79e_id_seq'::regclass);


--
-- Name: procrastinate_events id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_events ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_events_id_seq'::regclass);


--
-- Name: procrastinate_jobs id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_jobs ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_jobs_id_seq'::regclass);


--
-- Name: procrastinate_periodic_defers id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_periodic_defers_id_seq'::regclass);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0003');


--
-- Data for Name: data_builtin_1420c79e; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.data_builtin_1420c79e VALUES (1, '', '{"url": "http://127.0.0.1:36969/pictures/beach.png", "tags": ["sea", "red ball"], "title": "A Beach, früh am Morgen", "doc_id": "None", "sha256": "ce3bd88d2e83e18805e2674c967255864a34d0f6b28abfc476a70997888b1f75", "_node_type": "ImageDocument", "ref_doc_id": "None", "description": "Sand and a red ball.", "document_id": "None", "_node_content": "{\"id_\": \"b88ac043-6bfd-5f78-81a1-78f785fe6e12\", \"embedding\": null, \"metadata\": {\"url\": \"http://127.0.0.1:36969/pictures/beach.png\", \"sha256\": \"ce3bd88d2e83e18805e2674c967255864a34d0f6b28abfc476a70997888b1f75\", \"title\": \"A Beach, früh am Morgen\", \"description\": \"Sand and a red ball.\", \"tags\": [\"sea\", \"red ball\"]}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"image_resource\": null, \"audio_resource\": null, \"video_resource\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"ImageDocument\", \"text\": \"\"}"}', 'b88ac043-6bfd-5f78-81a1-78f785fe6e12', '[0.10357666,-0.044189453,-0.043701172,0.07354736,0.0014410019,0.1373291,0.008346558,-0.14428711,-0.057922363,-0.119628906,-0.033447266,0.20336914,-0.04107666,-0.12878418,-0.0625,-0.15014648,0.08135986,0.05041504,-0.044189453,-0.045654297,-0.028945923,-0.032470703,-0.029403687,0.01436615,-0.026275635,-0.041534424,-0.06185913,0.14147949,0.1071167,0.05947876,0.057647705,0.004501343,0.045013428,0.043548584,-0.0317688,-0.0178833,0.02154541,-0.0046920776,0.041748047,0.06756592,0.03488159,0.027877808,0.06427002,-0.08880615,0.024124146,-0.088134766,0.10406494,0.078430176,-0.058685303,-0.0063972473,0.03656006,0.041748047,-0.015510559,-0.0031223297,0.013114929,0.068603516,0.013809204,0.015823364,0.04019165,-0.03942871,-0.010429382,-0.008583069,-0.032836914,-0.039489746,0.02671814,0.017410278,0.017074585,-0.005126953,-0.0418396,0.014076233,-0.020568848,-0.06161499,0.028030396,-0.015396118,-0.032714844,0.020584106,-0.0039405823,0.02482605,0.0064926147,-0.031829834,0.07159424,-0.007293701,0.0017299652,0.0033226013,0.0016298294,-0.01789856,0.0045776367,0.035888672,0.02935791,0.058380127,-0.018615723,0.033081055,-0.034942627,-0.006427765,-0.02722168,0.020584106,0.004711151,-0.029937744,-0.01109314,0.0058250427,-0.025161743,0.017929077,0.027297974,0.012290955,0.012542725,0.010673523,-0.018051147,0.0008134842,-0.022872925,0.020050049,0.029205322,-0.03729248,-0.0052337646,0.010169983,0.0026874542,-0.0062408447,0.016326904,-0.0071411133,-0.0048599243,0.019256592,-0.010955811,0.01335144,0.008964539,0.007408142,-0.018569946,-0.011276245,-0.003080368,-0.01991272,0.00028848648,0.0070991516,-0.019592285,0.012664795,-0.0072517395,0.009231567,-0.019119263,0.0021839142,0.018295288,0.005886078,-0.0030975342,-0.0029773712,0.000620842,-0.006713867,-0.023757935,-0.015174866,-0.005302429,0.010658264,0.0048179626,0.0095825195,-0.009254456,-0.0034980774,-0.002292633,-0.0016183853,-0.011116028,-0.006122589,-0.013626099,-0.008369446,0.0038757324,-0.0033054352,0.010848999,-0.003900528,-0.004512787,-0.0069351196,5.5253506e-05,0.0074386597,0.0042495728,-0.0007662773,-0.0012321472,0.001045227,-0.0054244995,-0.017288208,-0.009643555,-0.0036907196,-0.007881165,0.00062036514,-0.00081539154,0.005256653,0.0016317368,0.006324768,-0.0008234978,-0.0053749084,-0.0023784637,-0.0032367706,-0.016494751,-0.0058937073,0.009307861,-0.0030231476,0.0070991516,-0.0020656586,-0.0046081543,0.0014896393,-0.010765076,-0.0012903214,0.0031013489,-0.0055770874,-0.0056381226,0.0029449463,0.00016200542,-0.003921509,0.009506226,-0.011016846,0.006942749,-0.002664566,0.0044403076,-0.008132935,-0.0060272217,-0.0035934448,0.0028305054,-0.005332947,-0.0029735565,0.003944397,-0.0032577515,0.002040863,-0.008407593,-0.007156372,0.0052337646,0.0028572083,0.0024337769,0.0018959045,0.002418518,0.0031108856,0.003479004,0.0032424927,-0.0055503845,-0.0015449524,0.0009608269,0.0012464523,-0.0069770813,0.00070667267,-0.007282257,0.0019702911,-0.0039253235,0.00687027,0.00072193146,-0.0031776428,-0.008712769,-0.002008438,-0.0058021545,0.00182724,0.0037117004,0.005622864,0.007965088,-0.003850937,0.0035533905,0.0020618439,0.006008148,-0.0023231506,-0.0023345947,-0.00083971024,-0.0009407997,0.0011491776,-0.0006918907,-0.0035419464,0.004085541,0.0034503937,0.0025730133,0.0026245117,0.0022850037,0.000787735,0.0018634796,0.00026273727,-0.00166893,-0.0023059845,0.0031032562,-0.008491516,0.0018119812,0.0029354095,-0.003238678,0.001115799,-0.0058784485,-0.00029087067,0.0030403137,0.003019333,0.0014066696,-0.0022201538,-0.0043678284,0.001663208,-0.0037956238,-0.0012426376,-0.0051002502,-0.0004968643,0.002401352,0.0015592575,-0.00043153763,-0.0009446144,0.0038852692,0.0017318726,0.0013360977,0.0027198792,-0.0016775131,-0.0009522438,0.0009613037,0.00039577484,0.0010271072,-0.00044560432,0.002817154,0.00010496378,0.001748085,-0.00064229965,-0.0017471313,0.00039744377,-0.00014841557,-0.0016384125,-0.00030970573,0.0006275177,0.002292633,0.002702713,0.00014436245,-0.0017824173,-0.000834465,0.0023593903,0.0041503906,-0.0009198189,-0.0029964447,0.0015544891,0.0025844574,0.00075006485,-0.00045990944,-0.0030937195,0.00032520294,3.2186508e-06,0.0670166,0.015823364,0.015357971,0.01777649,-0.028808594,-0.0067329407,-0.01939392,0.022491455,0.00945282,-0.0021858215,-0.0041122437,0.020736694,0.003566742,0.011962891,-0.01247406,-0.007408142,-0.0037269592,0.00031900406,0.0053215027,0.008163452,0.006095886,0.0068473816,-0.001405716,-0.00055503845,-0.0015649796,-0.010887146,0.014793396,0.017196655,0.0051002502,0.015777588,-0.009300232,-0.004383087,0.00919342,-0.005504608,0.005794525,-0.004573822,0.0055885315,0.0046577454,0.0020923615,0.0015249252,0.005722046,-0.0026721954,0.0016698837,-0.012916565,-0.0036907196,-0.0042381287,0.004749298,0.005004883,0.0038070679,0.003353119,0.001244545,0.0033473969,0.011924744,-0.0076560974,0.005874634,-0.0034732819,-0.017410278,-0.0018520355,-0.005744934,-0.0038585663,0.0060653687,-0.0031204224,0.0018558502,0.010314941,-0.0025100708,0.0034332275,-1.8239021e-05,0.013366699,-0.0049934387,0.00459671,-0.0073280334,-0.0030231476,0.01210022,-0.0043678284,0.0018920898,-0.001162529,-0.0006403923,-0.0011234283,-0.003917694,0.0066604614,-0.0021247864,0.008369446,0.011459351,0.0020446777,-0.003774643,-0.008407593,0.00066518784,0.0079422,0.0004515648,-0.0040664673,0.007522583,0.0029258728,0.0075569153,0.011276245,-0.0071792603,-0.010810852,-0.015701294,-0.012779236,0.005924225,-0.0109939575,-0.0031929016,-0.007801056,-0.007598877,-0.004142761,-0.00598526,-0.0020618439,0.0040664673,0.0004246235,-0.0032291412,-0.005180359,0.0031852722,0.0070648193,0.00579834,0.0045051575,0.0061073303,-0.002298355,-0.006401062,0.0011358261,-0.0038585663,0.001074791,0.0032463074,0.0008482933,-0.0016946793,0.000351429,-0.0025405884,-0.0009274483,0.008842468,0.006099701,0.00025343895,0.001572609,-0.00048208237,-0.000995636,0.0034942627,0.0047073364,0.0031757355,0.0019607544,0.0025997162,0.00091028214,0.0007944107,0.008010864,0.00011956692,0.003648758,0.003835678,0.005947113,-0.00084638596,-0.0059776306,-0.0036411285,0.0031986237,0.00015950203,0.0016860962,0.006084442,0.0039482117,-0.0053482056,-0.0073661804,0.0049819946,-0.004043579,0.007545471,-0.010322571,0.006668091,0.0022296906,0.0043182373,-0.0011081696,-0.00063467026,-0.0009665489,-0.004722595,-0.0052719116,-0.0005135536,-0.003004074,0.00020265579,-0.00724411,-0.0005865097,-0.00090932846,7.557869e-05,0.00484848,-0.0004954338,-0.00869751,0.0025310516,0.002752304,-0.0014982224,0.0041770935,-0.0030403137,-0.0029735565,-0.0050239563,-0.0017118454,0.008300781,-0.0019702911,-0.0015239716,-0.005622864,0.00074100494,-0.0008406639,0.0047912598,0.80566406]', '{format:png,orientation:landscape,colour:grey,colour:yellow,colour:blue,host:127.0.0.1,tag:sea,"tag:red ball",metadata:sku=a17,metadata:price=3.5}', NULL, 64, 48, NULL, NULL);
INSERT INTO public.data_builtin_1420c79e VALUES (2, '', '{"url": "upload:1013cc90ec4d53ff1a38937456d8311452e955f0ba5033f66fdbb55d120a7181", "title": "upload.png", "doc_id": "None", "sha256": "1013cc90ec4d53ff1a38937456d8311452e955f0ba5033f66fdbb55d120a7181", "_node_type": "ImageDocument", "ref_doc_id": "None", "document_id": "None", "_node_content": "{\"id_\": \"920e7ec5-a7e3-51f4-8558-7855f824c16c\", \"embedding\": null, \"metadata\": {\"url\": \"upload:1013cc90ec4d53ff1a38937456d8311452e955f0ba5033f66fdbb55d120a7181\", \"sha256\": \"1013cc90ec4d53ff1a38937456d8311452e955f0ba5033f66fdbb55d120a7181\", \"title\": \"upload.png\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"image_resource\": null, \"audio_resource\": null, \"video_resource\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"ImageDocument\", \"text\": \"\"}"}', '920e7ec5-a7e3-51f4-8558-7855f824c16c', '[0.068237305,0.0008773804,-0.084350586,0.116760254,-0.058166504,0.101257324,-0.041107178,-0.19787598,-0.09246826,-0.097961426,-0.06072998,0.18762207,-0.055877686,-0.0793457,-0.008102417,-0.15734863,0.11907959,0.091430664,-0.020019531,0.007698059,0.017745972,-0.016616821,0.0093688965,0.04232788,-0.021026611,-0.01473999,-0.04525757,0.115600586,0.083496094,0.062164307,0.041015625,-0.0619812,0.0018014908,0.031204224,-0.044281006,-0.019470215,-0.0007314682,0.0026683807,0.05206299,0.039093018,0.0541687,0.044677734,0.021392822,-0.067871094,-0.012458801,-0.08691406,0.09350586,0.045837402,-0.057922363,-0.053619385,0.06640625,-0.002998352,0.01864624,-0.029754639,0.016540527,0.07775879,0.017471313,-0.0047187805,0.04650879,-0.0026760101,-0.013130188,-0.010643005,-0.03778076,-0.050842285,0.012390137,-0.023864746,0.017730713,-0.041625977,-0.018066406,-0.053985596,-0.044189453,-0.04296875,0.034088135,-0.0446167,-0.021148682,0.029144287,0.007659912,0.027236938,0.009994507,-0.020690918,0.047302246,0.01184845,0.03387451,-0.0024261475,-0.0003581047,-0.044799805,-0.020217896,0.0006556511,0.0062294006,0.050231934,-0.025650024,0.033355713,-0.04373169,0.005718231,-0.0055770874,0.013244629,0.013885498,-0.051605225,-0.008888245,-0.011878967,-0.0047454834,0.0033283234,0.022506714,0.0027046204,0.0078048706,0.018981934,-0.018035889,0.0072402954,-0.019134521,0.026992798,0.028686523,-0.008804321,0.015045166,0.031143188,-0.0036811829,-0.0015869141,0.00957489,-0.00037050247,0.011543274,0.021987915,-0.0055007935,0.021011353,-0.01083374,0.019210815,-0.012016296,-0.007080078,-0.0073013306,-0.027175903,0.0077819824,0.0040130615,-0.019241333,0.0032196045,-0.008262634,0.00667572,-0.038085938,0.009399414,0.013717651,0.009307861,-0.00541687,-0.012138367,0.0024986267,-0.006580353,-0.014572144,-0.012557983,-0.0076293945,0.0024089813,0.010116577,0.0042266846,-0.013069153,0.0043945312,-0.009918213,-0.023391724,-0.0026016235,-0.00047707558,-0.008888245,-0.009475708,0.0050621033,0.0011415482,-0.0016222,0.010650635,-0.00831604,0.0021362305,0.002626419,-0.006652832,0.0027561188,0.0016469955,-0.012672424,-0.0028629303,-0.0058517456,-0.0088272095,0.002199173,-0.0131073,-0.012107849,-0.0039024353,0.0020771027,0.0054512024,-0.01374054,0.010375977,-6.824732e-05,-0.004776001,0.00082206726,3.7789345e-05,-0.012512207,-0.007381439,0.0003399849,-0.0037822723,-0.001906395,-0.0046195984,-0.013381958,9.685755e-05,-0.0071792603,-0.0102005005,0.004589081,-0.0006084442,-0.00069618225,0.007522583,-5.5491924e-05,-0.006465912,0.0074806213,-0.0061912537,0.009315491,-0.0010738373,0.0030460358,-0.004436493,0.001947403,-0.0044059753,0.0035171509,-0.0023174286,-0.0010604858,0.006137848,-0.0036296844,0.0007176399,-0.0010957718,-0.012489319,0.0113220215,0.0014972687,0.008033752,-0.001455307,-0.0017938614,0.00019097328,0.008255005,-0.0013198853,-0.0064353943,-0.0062942505,0.005847931,0.00078964233,-0.014289856,-0.00091362,-0.0062446594,0.0029277802,-0.0055732727,0.003982544,0.0005340576,-0.003780365,-0.009765625,-0.0054016113,-0.0067367554,0.0013360977,0.006290436,0.0045166016,0.00724411,-0.0031776428,0.0047302246,0.0063667297,0.012741089,-0.004951477,-0.00060510635,0.001206398,-0.00084114075,0.0032997131,-0.003320694,-0.005344391,0.0051116943,-0.000626564,-0.0022640228,0.0019388199,0.00019216537,-0.0026741028,-0.0049095154,-0.0018606186,0.0021400452,-0.002313614,0.0011501312,-0.006324768,0.00019347668,0.0038986206,-0.002588272,-0.0019931793,-0.006996155,-0.0025463104,0.0019931793,0.004470825,0.0020122528,0.0030021667,-0.006134033,0.0010671616,-0.0021343231,-0.003446579,-0.0031166077,-0.0007991791,0.0041046143,0.001376152,0.0022621155,-0.0009965897,0.0053215027,0.00046873093,0.0022068024,0.0031852722,-0.0009551048,-0.0005121231,0.0014791489,0.00053310394,0.001042366,-0.0013208389,0.0015983582,0.0010385513,-0.000114798546,0.00016129017,9.095669e-05,0.002128601,-0.0006656647,-0.0019016266,-0.00037789345,0.0032215118,0.002216339,0.0028648376,0.0011329651,0.00014960766,-7.092953e-05,0.0026817322,0.0015382767,-0.00020182133,-0.005317688,0.003080368,0.0011329651,0.0016613007,-0.00013399124,-0.002243042,0.0025463104,-0.00026512146,0.046661377,0.012031555,0.020019531,0.0119018555,-0.020629883,-0.019210815,-0.0074539185,0.018661499,0.0027637482,-0.010047913,-0.016616821,0.024658203,6.455183e-05,0.010246277,-0.0028648376,0.001914978,-0.0017280579,0.0029563904,0.0051116943,0.00025987625,-0.0007429123,-0.0053138733,0.00089120865,0.013771057,0.0039520264,-0.0074386597,0.026977539,0.028121948,0.0048828125,0.011154175,-0.01234436,-0.0044822693,0.01247406,-0.0019741058,0.02079773,-0.016540527,0.011528015,0.0037975311,0.0061798096,0.00013387203,0.004714966,-0.012680054,-0.0063323975,-0.006214142,-0.0057525635,-0.0016145706,0.0074653625,0.002779007,-0.0056915283,0.012275696,-0.0066184998,0.0018367767,0.008460999,0.0022830963,0.009384155,0.00094127655,-0.011383057,0.004512787,-0.010818481,0.0017023087,0.005317688,-0.0070381165,-0.001876831,0.016784668,-0.00051641464,-0.0010700226,-0.0048675537,0.007980347,-0.0038452148,0.0047340393,-0.005378723,-0.012611389,0.013404846,-0.007232666,0.0025615692,-0.0009918213,0.0021858215,-0.009605408,-0.007019043,0.007419586,0.005569458,-0.002521515,0.008049011,0.002773285,-0.01171875,-0.0010204315,0.0071525574,0.0013484955,-0.00039434433,0.001865387,0.006904602,0.008392334,0.004886627,0.015487671,-0.0033245087,-0.00043940544,0.0024089813,-0.00025343895,0.010185242,-0.010185242,-0.008300781,-0.0025043488,-0.013504028,-0.00081062317,-0.005050659,-0.00605011,0.0073928833,0.0076675415,0.004047394,-0.0121536255,0.007129669,0.001458168,0.00036740303,0.0020885468,0.013259888,0.0028839111,-0.00086307526,0.0024204254,-0.0032730103,-0.0009713173,-0.010505676,-0.0006637573,-0.0036964417,0.0059318542,-0.0038204193,-0.00037932396,0.012588501,0.009185791,-0.00024867058,0.00063991547,0.00598526,0.007041931,0.0044174194,0.008865356,0.0052108765,0.008010864,0.0038414001,0.0050811768,0.00415802,0.009971619,-0.006500244,0.0049743652,-0.00043725967,-0.0018405914,-0.006164551,-0.0037631989,-0.0029239655,0.005531311,-0.0028133392,-0.0012378693,0.00026130676,-0.00055122375,0.0071029663,-0.0005173683,0.00548172,-0.012397766,0.0051841736,-0.0048828125,0.0090789795,-0.0018539429,0.00881958,0.0010709763,-0.0042381287,-0.0004274845,-0.002084732,-0.0032787323,0.00035500526,-0.0015230179,0.0036735535,-0.004928589,0.0021457672,0.0006546974,-0.00085258484,0.00047802925,0.0012321472,-0.0040779114,-0.006706238,0.0012741089,0.0012207031,0.0022964478,0.0013923645,-0.0012874603,-0.0043029785,-0.0012331009,0.002319336,-0.0039482117,0.0067329407,-0.0035877228,-0.00044846535,0.002412796,-0.0031318665,0.80566406]', '{format:png,orientation:landscape,colour:grey,colour:black,colour:green}', NULL, 64, 48, NULL, NULL);
INSERT INTO public.data_builtin_1420c79e VALUES (3, '', '{"url": "http://127.0.0.1:36969/pictures/boat.png", "doc_id": "None", "sha256": "1deebb3ff76a698605248ee8d6430bfe8bc3e5884a1a8029e036545af34554f5", "_node_type": "ImageDocument", "ref_doc_id": "None", "document_id": "None", "_node_content": "{\"id_\": \"4bf7434f-2725-57a5-9c34-a36f1ecb9cbf\", \"embedding\": null, \"metadata\": {\"url\": \"http://127.0.0.1:36969/pictures/boat.png\", \"sha256\": \"1deebb3ff76a698605248ee8d6430bfe8bc3e5884a1a8029e036545af34554f5\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"image_resource\": null, \"audio_resource\": null, \"video_resource\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"ImageDocument\", \"text\": \"\"}"}', '4bf7434f-2725-57a5-9c34-a36f1ecb9cbf', '[0.06100464,-0.01096344,-0.07910156,0.103271484,-0.091796875,0.07775879,-0.03656006,-0.20385742,-0.057891846,-0.06225586,-0.0927124,0.15759277,-0.059448242,-0.12359619,0.039276123,-0.18249512,0.121154785,0.09899902,-0.04598999,-0.03201294,0.038513184,-0.01474762,-0.0073013306,0.04940796,-0.033325195,-0.017715454,-0.0803833,0.04736328,0.12207031,0.047973633,0.03704834,-0.043060303,-0.023361206,-0.0019550323,-0.046447754,0.0034561157,-0.0015459061,0.018478394,0.06427002,0.019424438,0.04119873,0.030181885,0.033325195,-0.08843994,-0.012550354,-0.09313965,0.059783936,0.06817627,-0.05026245,-0.033416748,0.043426514,0.0059776306,-0.015556335,-0.033691406,0.021514893,0.091430664,-0.019058228,0.025985718,0.030456543,0.014091492,-0.011413574,-0.027954102,-0.035705566,-0.042755127,0.048980713,-0.018814087,-0.015281677,-0.039276123,-0.010597229,-0.027709961,-0.021316528,-0.060577393,0.021484375,-0.03869629,-0.02835083,0.027175903,-0.003353119,-0.006652832,0.018798828,-0.007419586,0.06561279,0.002336502,0.050079346,0.026168823,-0.008934021,-0.034576416,-0.014503479,0.006175995,0.01525116,0.053131104,-0.019088745,0.02468872,-0.031951904,-0.0034561157,-0.010673523,0.009277344,-0.00027799606,-0.0335083,0.00014340878,-0.004058838,-0.007194519,0.011299133,0.03302002,-0.0043754578,0.005596161,0.021957397,-0.026260376,0.0031547546,-0.004673004,0.02923584,0.008163452,-0.021865845,0.020950317,0.03778076,-0.0030918121,0.0051956177,0.0037136078,0.0033626556,-0.0007762909,0.021499634,-0.010887146,0.010147095,0.006916046,0.028747559,0.0021591187,-0.00793457,-0.007865906,-0.020339966,-0.006374359,0.0014982224,-0.022613525,0.0017385483,-0.008163452,0.02619934,-0.009208679,0.0056991577,0.013687134,0.0029144287,-0.001408577,-0.0124053955,-0.0054740906,-0.00027394295,-0.016067505,-0.0049324036,-0.008628845,0.012077332,-0.0006284714,0.014663696,-0.009597778,0.0013818741,0.0008215904,-0.013031006,-0.0014152527,0.0072364807,-0.008430481,-0.013168335,0.004550934,-0.0036945343,-0.0038261414,0.0025196075,-0.0069351196,-0.005744934,0.0073661804,-0.0070991516,0.0019950867,0.0064849854,-0.014480591,-0.0017271042,-0.0040016174,-0.01361084,-0.0029716492,-0.008163452,-0.01108551,-0.0068092346,0.0019893646,0.0066833496,-0.0039863586,0.0064582825,0.0001642704,0.00091457367,-0.003364563,0.0022144318,-0.014060974,-0.0062179565,0.002620697,-0.011383057,0.0036506653,0.00012242794,-0.012268066,0.008842468,-0.0067214966,0.0005302429,0.0043945312,-0.008468628,-0.0023708344,0.0029621124,-0.002632141,-0.0078125,0.0051498413,-0.0017967224,0.0090408325,0.0031414032,0.013198853,-0.0064048767,0.00010532141,-0.0013904572,1.2457371e-05,-0.0030956268,-0.002538681,0.00459671,-0.0051994324,-0.0047569275,0.00021159649,-0.006198883,0.010223389,0.005706787,0.006324768,-0.0028572083,-0.0025024414,0.0017671585,0.0065841675,0.0035629272,-0.0075531006,0.0011558533,0.0015306473,0.003458023,-0.00566864,-0.0014667511,-0.0074043274,-0.0010347366,-0.0075645447,0.005836487,0.00094795227,-0.007949829,-0.003698349,-0.003484726,-0.0035037994,-0.00059223175,0.0037231445,0.0027313232,0.007572174,-0.0025730133,0.0067634583,0.0011720657,0.015686035,0.0012321472,-0.0012273788,0.0016698837,-0.0007519722,0.0020561218,-0.0014019012,-0.0010738373,0.0067749023,0.005680084,-0.0004963875,0.003753662,-0.0010318756,0.002023697,-0.0028572083,0.0022945404,0.0034885406,0.0007247925,0.0020103455,-0.0076446533,-0.0009651184,0.0041885376,0.001335144,0.0016527176,-0.005622864,-0.002866745,0.005104065,0.004558563,-0.0016012192,0.0017147064,-0.0051612854,0.000770092,-0.00015473366,-0.003458023,-0.0031738281,0.0009403229,0.0047416687,0.0030841827,0.00082206726,-0.00052690506,0.004524231,-6.920099e-05,0.0018568039,0.004760742,0.0007491112,0.0028247833,0.0035324097,0.0030994415,-0.0010375977,-0.00092315674,0.0024356842,0.0024032593,-0.00021481514,0.0010795593,-0.002462387,-0.0003361702,-4.9948692e-05,-0.0005302429,0.0007543564,0.003921509,0.00016224384,0.005241394,0.0012207031,0.0002696514,-0.0015888214,0.0022029877,0.003396988,0.0001296997,-0.0021247864,-0.0015354156,0.0027942657,0.0016069412,0.00028419495,-0.00137043,0.0033435822,-0.001077652,0.057800293,-0.004825592,0.011817932,0.023757935,0.0017547607,-0.012489319,-0.0033512115,0.01776123,0.009628296,-0.011489868,-0.018371582,0.012710571,-0.011253357,-0.015655518,0.0023002625,-0.0031776428,0.010559082,-0.0064849854,0.0059394836,-0.009635925,-0.0068511963,-0.0104599,0.016601562,0.018371582,-0.00283432,-0.0009431839,0.01890564,0.01826477,-0.00022792816,0.0038719177,-0.017349243,-0.0025615692,0.003686905,-0.00466156,0.017288208,-0.013916016,-0.0015411377,0.014709473,0.0021438599,0.0017204285,0.008506775,-0.0026474,-0.016647339,-0.011886597,-0.0098724365,0.0047836304,0.008926392,0.008384705,-0.0071983337,0.0073165894,-0.0064048767,0.0032539368,0.010139465,0.006511688,0.0027942657,0.0058174133,-0.009277344,0.0013208389,-0.0051727295,-0.00073862076,0.01210022,-0.00472641,0.0033664703,0.00806427,-0.007926941,-0.0044670105,-0.0009217262,0.0007472038,-0.006690979,0.014015198,-0.007701874,-0.008804321,0.0104522705,-0.0065612793,0.0067977905,-0.001200676,0.0075149536,-0.007980347,-0.0068855286,0.010627747,0.003604889,-0.00014936924,0.006210327,0.0020751953,-0.0181427,0.0004556179,0.015853882,-7.992983e-05,0.0045700073,-0.0010223389,0.0017652512,0.003080368,-0.0027179718,0.014625549,0.0037403107,-0.001953125,-0.006099701,-0.003370285,0.015510559,-0.007713318,-0.007987976,0.0058135986,-0.006454468,-0.0061073303,-0.008338928,-0.0053520203,0.007850647,0.00674057,0.0019369125,-0.0067367554,0.0021629333,0.0030059814,-8.749962e-05,0.0010643005,0.010734558,-0.0032615662,-0.0026054382,0.002128601,0.0016994476,-0.0012111664,-0.00566864,0.001455307,0.0043945312,0.007801056,-0.008377075,0.0023651123,0.0107421875,0.0011863708,0.00026631355,-0.00187397,0.00730896,0.010513306,-0.0002772808,0.00056266785,-0.0027980804,0.0060272217,0.0026474,0.0035037994,0.0030593872,0.009994507,-0.0024719238,0.0003221035,-0.0036773682,0.0016021729,-0.0006070137,0.00044250488,0.0009536743,0.0016784668,-0.0020141602,0.0010900497,-0.0002746582,0.0013446808,0.005756378,-0.0058555603,-0.002954483,-0.010246277,0.0027179718,-0.0041542053,0.014328003,0.00073337555,0.002696991,-0.001625061,-0.001420021,-0.0015087128,-0.00013458729,-0.0018577576,5.954504e-05,-0.0003619194,-0.00043797493,-0.008010864,0.001876831,-0.0021247864,-0.0010643005,-0.0034675598,0.00056886673,-0.0021629333,-0.0049057007,0.0023288727,-0.0010166168,0.0029239655,2.6583672e-05,0.00072956085,-0.0015125275,-0.0011339188,0.00084781647,-0.0033397675,0.0023822784,-0.0017824173,0.001241684,0.0038795471,-0.0021419525,0.80566406]', '{format:png,orientation:landscape,colour:grey,colour:blue,colour:red,colour:black,host:127.0.0.1}', NULL, 64, 48, NULL, NULL);


--
-- Data for Name: encoders; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.encoders VALUES ('builtin', '1420c79eeb1f56b98a758edad725aa4473d905882dc1fae438af281dd37b976e', 'builtin', 512, 'data_builtin_1420c79e', '2026-11-28 01:47:27.233156+00');


--
-- Data for Name: images; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.images VALUES ('b88ac043-6bfd-5f78-81a1-78f785fe6e12', 'http://127.0.0.1:36969/pictures/beach.png', 'ce3bd88d2e83e18805e2674c967255864a34d0f6b28abfc476a70997888b1f75', 1085102592571150095, 2876, 64, 48, 'PNG', '{}', 'A Beach, früh am Morgen', 'Sand and a red ball.', '{sea,"red ball"}', '\xffd8ffe000104a46494600010100000100010000ffdb0043000503040404030504040405050506070c08070707070f0b0b090c110f1212110f111113161c1713141a1511111821181a1d1d1f1f1f13172224221e241c1e1f1effdb0043010505050706070e08080e1e1411141e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1effc00011080030004003012200021101031101ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f0100030101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c03010002110311003f00f6bd5b55c67e6aadabeb4549f9ab93d6afc8ddf3564eb9aa91bbe6afccbc32c12853c4ff00db9ffb71db8d96a8d9d435ec13f3feb591378879fbff00ad70fabeb4549f9eb9cb9f10618fcffad7df6230f6672a67adc3e21c9fbf5afa7ebd923e7af0db6f106587cffad747a46b4588f9e950c35d89b3de348d68b11f3d59d2755ce3e6af34d0f54276fcd5afa2df93b79af82f13704a74f0dff6ff00feda7560e566cc0d7a63f3735cef88ae186ee6ba2d7a13f3715cef88add8eee2bdbf0db97d9623fedcff00db88c66e8f39f105eba96e4d707ab6b2d139cb115ddf882c9db7706b83d5f46795c82a4d7dd62140e542e93acb4ae30d9aef3c3f7aedb79ae0b48d19e27002915de787ec9d4af06961d44523d23c3b70c76f35d168331f979ae73c3b6ec36f15d1e8311f978af85f12397d961ffedfff00db4e9c1eecdcd6ec09ddf2d64eb9a516ddf2d7a56ada575f96abeafa2924fc95e378638de7a789ff00b73ff6e36c6c7547836afa29627e4ae72ebc3f963fbbfd2bdcb50d0724fc9fa5644de1ef9bee7e95f7f5f117672a47925af87f0c3f77fa5747a468a548f92bb887c3df37dcfd2b634fd07047c9fa52a188b313463685a591b7e5ad7d16c08dbf2d757a468a548f92ace93a563185af81f1371bc94f0dff006fff00eda7560a3ab3ffd9', '2026-11-28 01:47:25.666365+00', '2026-11-28 01:47:25.666365+00', NULL, NULL, '2026-11-28 01:47:25.666365+00', NULL, DEFAULT, '[{"rgb": "#868685", "name": "grey", "share": 0.43}, {"rgb": "#acac23", "name": "yellow", "share": 0.37}, {"rgb": "#6a6a88", "name": "blue", "share": 0.13}]', '{"sku": "a17", "price": 3.5}');
INSERT INTO public.images VALUES ('920e7ec5-a7e3-51f4-8558-7855f824c16c', 'upload:1013cc90ec4d53ff1a38937456d8311452e955f0ba5033f66fdbb55d120a7181', '1013cc90ec4d53ff1a38937456d8311452e955f0ba5033f66fdbb55d120a7181', -3707431650304537396, 4122, 64, 48, 'PNG', '{}', 'upload.png', '', '{}', '\xffd8ffe000104a46494600010100000100010000ffdb0043000503040404030504040405050506070c08070707070f0b0b090c110f1212110f111113161c1713141a1511111821181a1d1d1f1f1f13172224221e241c1e1f1effdb0043010505050706070e08080e1e1411141e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1effc00011080030004003012200021101031101ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f0100030101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c03010002110311003f00f14fd9b7541136b7a53dcc9b9d62b886024ed00656461d81e6307b9e3ae38f7df0a4c134db99507ef5e7d84e7a80a3031ff023f9d7cb3f042fbec7e3a483cbddf6cb6960ddbb1b300499f7ff00578c71d7dabeaed3226d3fc3d6de738f31e3de36e780c4b007df91f957c0e6f90d4cc33474e3a46566df656fd5c6debaec7cc60702a9712d4c4b5f639be6ed1f96cff1ee477f782d6361bf2c71b8e7bd73b77ad1120cbfeb54bc47a805df8735c36a5ac6d93eff00eb5fa361a8d2c2d18d1a2ad18ec8fadab2727767a2da6b3b988c820f1cd741a65c0936989829f4ed5e35a6eb1ba5ff0059fad773e1cd4036ccb9af1b35c0e1f1d0e4af1bfe6bd19c9cce2f42efc73447f0be9d75347fe910de08d1b71e11d18b0c743928bf97d6be70f89575b8d8da091b20348e9ce39c053e9d9bf5f5afab7c5911d53e1feab6c850910894efce311b073f8e14e3debe4cf8816cf36bcc201c431aa609e4e7e6ff00d9bf4acb86b843131839616f52306f4fb493f2ebbf4d6fad8fbaa59d28f0bd4c3c9d9b9a8fc9da5f2d9f96fdc6fc3791f4cf17693a9b4e9028b845677c00b1b1dae493c01b4b73ef9e2bec2f11816f6cb02292b1204524738031cd7c83a3dbf9fab5a40b1abaf98b95206368e4fe80d7d75ad4e9a869d05f43b962b9856640df780600807df9afd178c72da39453c3d0a3d9f33eef4d7f3b791f0786c2b77c6b5bfbb7f4d6dff931e57e2b9dd77e17f5af2bf116a2f139278c1af54f1640cdbfe6fd2bcb3c43a719642082735f1b0aad9d2e570f0eea0d2c808c9cd7a9f84e766d9f2feb5e59e1dd39e27000c60d7aa7852075d993fa539d26c8e53d534581750d3a7b19b72c5730b42e57ef00c0838f7e6be44d627f3f56bb9da4565f31807046368e07e80735f6078708b7b769dc9291217603ae00cd7c77f12637d33c5dab698b025ba8b876544c00a8c7720007006d2bc7be38afb2e0ecce8e514f115eb765cabbbd74fcafe4615f14db5824f7f7beed2ff8ff00571df0fee5e7d794ce46218d9f207273f2ff00ecdfa57d67e1394ea9f0ff004ab97542442621b338c46c507e38519f7af94fe1a5aee37d76626c80b1a3f38e72587a765fd3d6be8ef818e8fe18d46d6193fd222bc323aed3c23a2853e87251bf2fa57e71c4bc5d898c14715efc60d6bf6927e7d77ebadf4b9f7d532551e17a7888ab37372f97c3f2d9796ddca7e23d3836fc213f8570da8e8fba5ff57fa57b26a76e24dc2550a7d7b560dd68db981da083cf15ae558ec3e3a1cf4257fcd7aa3e19a69d99e73a6e8fb643f27e95dd78734f0bb3287f2abb69a2e24384ae8ac2cc5ac6a4a65ce768c77af6b135a96168cab56768c77674538b93b21fa9cada7f87ee7c941e63c7b0eecf0188538f7e4fe55f28fc71b0fb1f8ede7f3377db2da29f6edc6cc031e3dffd5e73c75f6afa9bc57085d36da273fbd79f7818ea029c9cff00c087e75e05fb49e96223a26aa96d26e7596de69c03b401b5a353d81e6423b9e7ae38fce728cfe798e68aa4b48caea2bb2b2fcdc6feba6c7c963b1d1a5c4d4f0c9fd8e5f9bbcbe5b2fc3b9fffd9', '2026-11-28 01:47:25.758718+00', '2026-11-28 01:47:25.758718+00', NULL, NULL, '2026-11-28 01:47:25.758718+00', NULL, DEFAULT, '[{"rgb": "#707070", "name": "grey", "share": 0.39}, {"rgb": "#0f0f0f", "name": "black", "share": 0.16}, {"rgb": "#43a833", "name": "green", "share": 0.12}]', '{}');
INSERT INTO public.images VALUES ('4bf7434f-2725-57a5-9c34-a36f1ecb9cbf', 'http://127.0.0.1:36969/pictures/boat.png', '1deebb3ff76a698605248ee8d6430bfe8bc3e5884a1a8029e036545af34554f5', -1671805166324626200, 4746, 64, 48, 'PNG', '{}', '', '', '{}', '\xffd8ffe000104a46494600010100000100010000ffdb0043000503040404030504040405050506070c08070707070f0b0b090c110f1212110f111113161c1713141a1511111821181a1d1d1f1f1f13172224221e241c1e1f1effdb0043010505050706070e08080e1e1411141e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1effc00011080030004003012200021101031101ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f0100030101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c03010002110311003f00f963e1cf85ae7c51af4702464d940cad792670110e7a1c11b8e0e07f4071f455b45058da41a66956be5c312ed8a18949c01cfd49ea49fa934df01f850e8ba05b683a77ef9f992599942ee63d5db1dba01d48000e6ba6fb1c1a3c526c7f3666e1a523071e80761fe7d31ebd0cca187c1c125acb5b7577d9beda74f5eb73e02184c4f15e339a3eee1e0ec9f7f3b756ff0005bf9b348822d3a3fb45d8492e8e08070445df8f7f7fcbdee3ebfcfdff00d6b8dd6756285be6ae72e35edae7e7af365889d69734d9fa251cbf0f80a0a861e364bef7e6fbb3d72df5d56e198303d8f35cb78f7c11a6f88ad1aff46862b4d550331552152e4939c37a3649f9bbe707b15e52c35e25861f35d7687ac162bf3d673a34672539c136bbafc2fb9c9471f89c05755b0f2b35f73f26ba9e25a9d8cb04b3699aada3c6e0012433215619008e0f238208fc2bcf75bd3a5d36f1a2653e5312627ebb97ebea3bff00faabebbf18f85ac3c63650cb24bf65be80054b954dc7667956191b8727b8c139f507c3fc61e18bbb3967d0f568fc99461a39146e5233f2ba13d41e4763d41c1ce3e7feb70c1e3254764f5b79775dedb3ff00863f46a75b0fc5984b47ddc4416ddfcafd9ffe4af7f3fac4d9da5869a2ded2254d8a11db0373e3a127bf7fd715c1f899d86e35d469fe21d275fb45bfd2ae9254650658b20490e73c3af254e41fae3824735cff00896dc90c46083e95c3c3198cf1d85e4adfc48692befe4fe7f9a3e22b4165f2faba87228e96b5ade563ca3c493ba96e4d79eeb1aabc3212490057a57896c99b7715e73ade90d2b905722beae11660f13cfa0ba26aed2b821b35e8de1abd66dbcd79a68fa5bc2e000715e87e1b81d4af0689b688fab73ea7abf86ae0b0507041f5ae8351f0f693e20b46d3f55b549519088a5c012c39c728dd54e40fae3904715cb7865186daef45dda5869a6e2ee55428a5d172373e3a803bf6fd335f29c4f96cf1d85e7a3fc486b1b6fe6bfaea8de8cd65f2fac39f228eb7bdade773e4ef07f89eeed25835cd264f26519592363b948fe24703a83807b1e8460e31edfe0ff14d878c6ca68a38becb7d002cf6ccfb8eccf0ca7032391db83c7a13f22689a94ba6de2caac7ca6204a9d772fd3d476fff005d7a16997d2c12c3a9e9576f1b804c7344e548c820f2391c120fe35ddf54860f191afb27a5fcbb3ef6dd7fc39f773a587e2cc25e5eee220b7efe76ecff00f257b79fb66b9a3962df257237da092c7299fc2bacf01f8df4df10da2d8eb334569aaa055058054b924e32be8f923e5ef9c8ee17a8b8d095c6554303dc735f434eb519c9c2134daecfa77b6e7e735f0189c057747111b35f73f34fa9e496fa16d7184c7e15d268da4952bf2d7629a073f73f4aa7abcf169c9f67b42925d1c8247223edcfbfb7e7efac70f3ad2e5823a6be3f0f80a0ebe22564bef7e4bcc905e41a3c49bd3cd99b056207071ea4f61fe7d6b99f1e78affb1740b9d7b51fdf3e447142182ef63d1173dba93d48018f34eb9960b1b49f54d56ebcb8625dd2cd2b138038fa93d001f402be75f88de29b9f146bd24ef213650332d9c78c04438ea3246e38193fd00c7a188cb6187c1cdb7acb4f377dd2eda5f5f4eb63f3b962b13c578ce597bb8783bb5dfcafd5bfc16de7ffd9', '2026-11-28 01:47:25.949076+00', '2026-11-28 01:47:25.949076+00', NULL, NULL, '2026-11-28 01:47:25.949076+00', NULL, DEFAULT, '[{"rgb": "#727170", "name": "grey", "share": 0.33}, {"rgb": "#318e98", "name": "blue", "share": 0.18}, {"rgb": "#97292a", "name": "red", "share": 0.16}, {"rgb": "#100f10", "name": "black", "share": 0.12}]', '{}');


--
-- Data for Name: job_counts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.job_counts VALUES (1, 'failed', 1);
INSERT INTO public.job_counts VALUES (1, 'indexed', 1);
INSERT INTO public.job_counts VALUES (1, 'waiting', 0);
INSERT INTO public.job_counts VALUES (2, 'waiting', 1);


--
-- Data for Name: job_items; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.job_items VALUES (1, 1, 'web', 'http://127.0.0.1:36969/status/404', NULL, NULL, NULL, 'failed', 'The URL''s server answers 404.', 1, NULL, '2026-11-28 01:47:25.942026+00', NULL);
INSERT INTO public.job_items VALUES (1, 0, 'web', 'http://127.0.0.1:36969/pictures/boat.png', NULL, NULL, NULL, 'indexed', NULL, 1, NULL, '2026-11-28 01:47:25.988239+00', NULL);
INSERT INTO public.job_items VALUES (2, 0, 'web', 'http://me:hunter2@127.0.0.1:9/waiting.png', 'Waits', NULL, NULL, 'waiting', NULL, 0, NULL, NULL, NULL);


--
-- Data for Name: jobs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (1, '2 URLs', '2026-11-28 01:47:25.805363+00', NULL, 0);
INSERT INTO public.jobs OVERRIDING SYSTEM VALUE VALUES (2, 'Waiting', '2026-11-28 01:47:27.313869+00', NULL, 0);


--
-- Data for Name: procrastinate_events; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.procrastinate_events VALUES (3, 2, 'deferred', '2026-11-28 01:47:27.313869+00');


--
-- Data for Name: procrastinate_jobs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.procrastinate_jobs VALUES (2, 'lookalike', 'index_chunk', 0, '2:0', NULL, '{"chunk": 0, "job_id": 2}', 'todo', NULL, 0, false, NULL);


--
-- Data for Name: procrastinate_periodic_defers; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: procrastinate_workers; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: queries; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.queries VALUES ('c46c4a92-eb33-4675-a125-8ccd75dcae4d', '\x89504e470d0a1a0a0000000d49484452000000400000003008020000002e29eb48000010a049444154789c755a598f35c9513db165567d3f821724bfc00824b34858802c638c66ec99f9a933c38c65639059e407164b4886174b3cc08fe8aacc8c8587aa7bbbbff1f82a95ea8ebeea8ae59c88c8c822fcf6cfdfe167899c98853a71166a60166a62e2e7583e3168f9a2492ece8323030359294baa4aa19565cb98180e22b23062eae82cdcb38746aba6a61d5d4dbf8bbf440308e800011b40400318f8ebdfaa247da3f4e7f8470027ce445efbc048d4c22cd4f8878951531606dc170d9abe78b2870b2423c5a5aa305155b68c881a1a1169a8b020202a2d9b36edd554ada3478b8efebdfe5d106000031d60607bec00befb0daaead77eff57fcab234e9c815858810844221cfe8cc6ca598575cc1a586bd124e745c111b1e68a085d92550a45020e06bb3b31999b88343424a262d58a0a4b4f4a83262508f76240810226208ff50b40813f7d4f617efbcb7fe097001c0b4022059c0800130bc0c262f0faa9d341eb9c082c4c2416661d35c6c8975c58084c381cc73cfc58871ff3980ec74420b0f0922f638ca30e2c24120b8138d738e8f8e9fa191858008009004840800400f8ade53744e0bff0df0e77ac4225b2900b331097ea8148e4158455b3aa662e0cccb530b07c12d86371f09c4b26c74503adeb91bc78f8f07012f27069121954f4522f9a1a088375f4a22a4af01bf707100f031448a00000ff0928f0fb00a0ff8bff73ac0307500bcbe10beef0442532914f2c2d2c7c053fbc46fa5c179690b88c715f3439c4232433d3cbe7f4e945e5eeac4c411c1c19336754686847bf1e9194071d2191945fe98f3f8a0fc16f9093000113d0876197dbff075068c09f4a0328a05085f4db981b4e898c2fe3026e66ce9c8f08d45c8b8015ce41732c9e9c99e2525a15a0a2f0183e562c66f60c7d13018325d2c93b7a521657717d295ffd303f0201f9f07d3df62b020b28c000022b1480dd7fc7bae1ee024d94421e9289449cc107fb703a79612131af7dde34406061c1b1b0fcc58f79cc63bef80b161c8e85805f0498732612f3a6c149e7f071f071c648d44d83f5408ee055727dec66805ed0f747040877189ef28b15f945c58885958f20acb5eaacb52606264f047938263cfca2c15507b0c0c4ee4e4211212a0d8d922e4c26d2d98bd2a815674916d790f30bfadb8ff34737a10bf0076ce8c16607087028831942080226d693064f38dd929a5e9123e3cc98112316adac5ab92a6b8e8bcd8b401111ce59b9d642c2dd196c300a9214248e3a343591064bcaa24cae938f928ac842f5d5ab0af23e72d6abd7ef7ac700df11b85630984085ba92a9632d3850f8aceaac3a73d10ac4aa1519312346aeb96ad4e289c48a8589e5ce93b35220486081c11e4e4c91a1a60d8dc1893ce848cae048a9b65a6541aa12879e55f80c5f7c8a8f6fccf8c3924bef2b020c38984006bb9c74a128108f147b99fc24c6d253f24c393947a0b03051985838688e59474dac9b060be73afdc55ffc659deb92040213471d638e0307260a8985428d1ca71c678e530f2ce04903bc29b6f130e62ad506d07b1170023198c10c0a84632d2c7c060cd4891a70ac55cbcb672d0cc4887ca4d4990b8935262679b84c49cd8aa2a2e5cbc32f0204c24a139124071da19e5519d1632baed28262e8892a009fd5e79fae4f6e75db8d990bfa771c08ca60bae941bf698c7c4613f3a281d7c20046d55935d271f702ebaa036bd5a8c99382dc233de65a3a1540f3468d381885ac3c7024a54b74f4e22aa9129c7a565df5b6ba6f77d1357cd63eff943ff99ad23732e89503110fa52f9e33f8951843f8641ac0c0ba2270d58713393247c4f040ce9c4f36bb2f9e1c9215c5c9cb576444868626c2d092aaa84e392bb30855b9ad0d8a02a0187612014c60eade6fa5db03486f8d617043134843173080805f7037187d4e36cde1203802009da443eb849ebae0282c2cd45d1fd6f0ab35426062c511571d38e2783642891ceb3cf838e32cd445002c9c7a9e35869e270d80e020008e69e373fa02f6a800170d0468f7aef170bf2304f2e0004fcc456b91e3040da6937870503cb8e138ab46e5593972d185a58981392726b92f865415391191a76b68201a59c7565c903af528aaaa02b0ad7ee94781d14e108808c0be7602c1de70401e594880007f0bdf628840041cf0ab7f0eb87cc932850705b9d35ae44e8e011ecc83f9a447a55b0bab8ecc33e388996be59a3167acf3388f97e3e5388ef38819312357e6ac238e338fa34eac872a8e93c7e073f01818e4448bc88982068f29f34bf9ea6eec9eed9d000c7cebd14e5fa9532037a2be6a8e0021106d7639b94da3f39152090e6fa3f14936b4ce470f52c8e174d21ab38e5c775bbdb070d431d638e91c39ea9122cf1ac3ce93c768271c04c2ba703a661ba79cb34d040804c757edc7afc87962e9cab11fe0835fe297029d9897fb83430e91293279d0748aa0708acbfd3408138b7c211ce1700ce0ac3c73d1f2cc990b813527cd0520ca25f5ea3a4beb941352009e0425a5698389c0c4ccdd3b05913339cd3e458484f6d85e237099f101f03cd02422100a5588fc44654a52044550e8bc2c11991214c11ee441c183788206d1e0405c88c2893a234e5fe79c31972f5f1e33ce759c719c759e386ed804068d4173f2183c288882388882a6cc2973ca983a2f39254d593f919fde1d753c8e384f03fe187fa29040043239825396ea125d1a1cc911ecc9a14b64aa2c9129c11114ce1ee4348807d1a48575a5da9973bdacf3388ff3785947ceaa5558c0c2a431780c9a14c47ee9cd53e69235652e5d9cccc1d7be742d9d4bd625b923a0c01fbf6f0080403674fd7bedabeb50300209860e6db3eba96df6781003043da5cd76ed71a75a6fa3f1203b35efa6f8418d3c4f1b83cfd1c60df7c06cf3d4f3da2fc9d7e44307831060f0d0b1fafa7bfd07b45702bc67c077f09dc4e5ec480e5b6a4b756970a6c4b5eb545baad3aec804677004872e95a5fa362c581819c73ce2656020f0ea6c9d4bd6d2c9c1cfb5744d9dcbd6d429c91c2cc91cb4d497ad65af614102dff9260300fcf93fff852dbb5672066772da325d66ae7a09255222256c99b95e7b72a644723e25d77fb89f91bc6cb9ad6be76449e6e4a764d992644996104e5eea6eeb529d93f912dabad63ffff9bfbcd5f98d01bf000429792d73333775ab877229d1bc995b5bcddc5232f9fe727333b7162d254baa3461e8dcdfb5bdbd13ee3088964a89a44473b7f0e69222299c22296ebe9abb2d6f2ec99c22c95ce2ea6ecb6f0b459205fc0bfce29b0c6060e07bfe5736ac7b4f241885ecdedb689b6f6d34080a75ed5b6c6db66b87a25050f4d9b7eaddb78d3b8360301818bcb1f7555bce3e158a8242669bb1f9b5a320906b1f6dfae6a34def8e024390f0eec3867fcf0726dfb5e0ad01fff6a8708ccbb5e6d6c26e4f4ba6664a5a58f366f19eb34bab55efd57b35186020236abcdbbb7ddbb77db3dd1a35233398c1aa57f5ac565a6fc31261e12dc25c92f572768a9b5f11bb63021148c0ff0dfffebe01f2e831023ff0bfb1682557a35b2d5a8fd6a2b54ba8595a25d5ab77b456bd6787000a18766c9b6cbb6e7bdba4899a9a5a93d676d35d6423ec30a8420592bdaa157a564f29d1122d919268112da2473497122991e2b0f01fdc6ddbd5f8bc5662fc0a381eed91008a8a6cb35554640c1d29555290eaab6566150a79eab8be4f8acd3b08c4983639999305d2a84d1500de4243c1306e4cc29da9031b142a508169193654af6c993d0d4d4a24554bb3c7654fabae77cf268e10c4aff0ab0ff0c19b0800086002810fe7474fb8b7d1b6dcfa6a1d5b01b01beedbecbdb6cd7ba70d000c04eadab7da7aeb3bef6830280c0dc63bb56eb5953ea9015027df56f59cdb4d0c83a1805eabcfdc62b4f92086ce0faf49e17cb66d8f08fc1a787914677d0dc247f3877f1b5f54d5a147a16a5555f5d52b0b59280c3d81fb88b4c54e45227ccae0642129aa5df6aa525b441448132d8651c3066ecc9dac4c2117a2aa676e993dd1a1a55a66a55a525b468bfc28ae2e53200ac9bb65ce5fe3d77ac3f71a1ecdc7302c014559156a5b1d89aa42e29413729fe8ba6f57d74e4cc3060951f15ebb950a49484cccca2a2d26b60611ad5ea64aa0468d897963ea4c9da8436106bd54cc2dab57f6c2062db33285de434864201afaddb641f8c20cc6a33dba4600062c7c5c9ff4d5a0c09d3a716306dbe61b14d75183409b6c7bee9b7606a3412030ecb2b7bded6d975d0c0d8206034337cb3d65931b4b0485f9e6e8e49b57bf90ab0014bafaaa8feb3a2102500880448c7bf63cf56eeef4313cba868f8f896409daec9597b84e1bd7c9991c7b6ccc0421561a18544cc5efb00bb18b0b4bad2a2d819091b5962d44b57ab56844d4a8a1431af3c6dc49a0065598c1b001bdb267b46cd5147a45008f59dbc3fdaa507df6a5af63b00b510b487c529f7e6e9f3de678b4ad8d082030d379f5c0429cbcd72ea90c762c218123255555558bcacdd9399455b418ad193ab4bd62e9529a1ad10674d8ab31529f44221f4adfab6e375722f53795bec7f017d61d9fac4fbfc0670008386d50101151d09e9b0813b19a0c0c291670a37742121a228285d4a4223232b3682122d54bc320686ce81013de589a30c4a829c92302840df8982e6304520f0e7ccd18bd91938f51f0fce651303960d8cf8d9828890433271af82418f6b973635e3c6d8a4b58581a360864d952be6f3152d2d0b0c3ccaaa36503a3c14090c6b905378bcdb7da9fa916c0825f33c22b752a74613d77bdcf38cf11763d26c0f6b8d2717c4c9f7e419fe3ca360c0a22e63d776216132ebe6e9f8464a73d3484a5b2aee1331460981913674f112994b18161dda8939ad2c6962624462610de883ad1c720dcd9c9a000aeb96d220ded4d04128807779f4aebe307ba479014444e7b6c54c4224434737111273378c7cec4ce3e31e150d6ca52d5ac5cb688c9e14c92122a8a06557d46c0b81191eeca9db9096f6c654a6a30853e666d74a97b755340152a900f0ed86f284d0f63080880f123faf84bf962da64214ee2e2bd362ed2bab8eb77f1e2fd26406262662514c464cd187cd12051265a82d60d1d664a9d5b1931373626962ef443e6c7e0f92a7678bdbbc0c31855283f71f28a9ca73197f697a481c05db63df7ae7dcbed6a93afbdb5b6d3de7b57080c0a85e19dbebbea80be53bbbb0a83a2f74e3bb5d6c0305cbbe556da35f7942e2034180083059cc08ed08704f770710170f89b2cf4642dbd0eafef433403858fe4873f96af288993b978affd72bf910d8ca21296c64d443373e9ca99624245106aa66ec1ccd1524352ca44d161dad0616604326e7cd5870ff11c100ae40a02839ea35b853d08208adf0100fcf72bdc9fb737f7288f5fef3a3fcc8f7eaa3fe162291918cfc7ecbc3bbbb00487b0707249a9a89a02d0b6c88994994424acb56c69aa896a6ce03ba55a536a243f906b627b5d59006030810ded618c5e76fc2e7e17af9707bf0700f8e5c3fd05b4fb78702728babfcb4554c4c53b762b1312277f46a04b57d6ac54d15ca9aa00416066614eccd9525c5252c5d061aa75c50168d488d1d0ae8c79b99fdf44e06205017f803f7c24f8f70ff5f8f61b1af043f5a7c480c4f7f5077bedbd6d0241c3d5fc5c0478c7ef601008140a6d7bdb6db75df7b643a16810188cdff14d03d85d0704ad5beda5dfb7ebee0c80dd967022188cfb2a15dfc61fbd55f9ebef4adc6f22fce37bc8b9c950f7623017edd819ac74074158e0d8658f0c13abaa8959553010913523a2d060e140a8684a5a6fd5ca4cd16171bb9f400625b0e2eb58fab3b7e394c7e79bdf56b93f3f0312984001e7e3d58b0226fe093ff7e983862f9f34c565f0c8c88151594b565541f1b60e10515830313a84257b6a68b532b5ea686af8cbdb80864ea00d1b812e03beffdbdfb7f97f67865ddb22d22dad0000000049454e44ae426082', 'image/png', '6700eb44b96a380c6746480826a852e3f5a779ea6673db894007c1cc776dc417', '2026-11-28 01:47:25.791946+00');


--
-- Name: data_builtin_1420c79e_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.data_builtin_1420c79e_id_seq', 3, true);


--
-- Name: jobs_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.jobs_id_seq', 2, true);


--
-- Name: procrastinate_events_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_events_id_seq', 3, true);


--
-- Name: procrastinate_jobs_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_jobs_id_seq', 2, true);


--
-- Name: procrastinate_periodic_defers_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_periodic_defers_id_seq', 1, false);


--
-- Name: procrastinate_workers_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_workers_id_seq', 1, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: data_builtin_1420c79e data_builtin_1420c79e_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.data_builtin_1420c79e
    ADD CONSTRAINT data_builtin_1420c79e_pkey PRIMARY KEY (id);


--
-- Name: encoders encoders_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.encoders
    ADD CONSTRAINT encoders_pkey PRIMARY KEY (name, fingerprint);


--
-- Name: images images_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.images
    ADD CONSTRAINT images_pkey PRIMARY KEY (id);


--
-- Name: job_counts job_counts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_counts
    ADD CONSTRAINT job_counts_pkey PRIMARY KEY (job_id, state);


--
-- Name: job_items job_items_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_items
    ADD CONSTRAINT job_items_pkey PRIMARY KEY (job_id, "position");


--
-- Name: jobs jobs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_events procrastinate_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_events
    ADD CONSTRAINT procrastinate_events_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_jobs procrastinate_jobs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_periodic_defers procrastinate_periodic_defers_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_periodic_defers procrastinate_periodic_defers_unique; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp);


--
-- Name: procrastinate_workers procrastinate_workers_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_workers
    ADD CONSTRAINT procrastinate_workers_pkey PRIMARY KEY (id);


--
-- Name: queries queries_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.queries
    ADD CONSTRAINT queries_pkey PRIMARY KEY (id);


--
-- Name: builtin_1420c79e_idx_1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX builtin_1420c79e_idx_1 ON public.data_builtin_1420c79e USING btree (((metadata_ ->> 'ref_doc_id'::text)));


--
-- Name: data_builtin_1420c79e_bare; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_bare ON public.data_builtin_1420c79e USING btree (node_id) WHERE (labels IS NULL);


--
-- Name: data_builtin_1420c79e_halfvec_m16_ef64; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_halfvec_m16_ef64 ON public.data_builtin_1420c79e USING hnsw (embedding public.halfvec_cosine_ops) WITH (m='16', ef_construction='64');


--
-- Name: data_builtin_1420c79e_height; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_height ON public.data_builtin_1420c79e USING btree (height);


--
-- Name: data_builtin_1420c79e_labels; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_labels ON public.data_builtin_1420c79e USING gin (labels);


--
-- Name: data_builtin_1420c79e_node_id; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX data_builtin_1420c79e_node_id ON public.data_builtin_1420c79e USING btree (node_id);


--
-- Name: data_builtin_1420c79e_place; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_place ON public.data_builtin_1420c79e USING btree (latitude, longitude) WHERE (latitude IS NOT NULL);


--
-- Name: data_builtin_1420c79e_taken_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_taken_at ON public.data_builtin_1420c79e USING btree (taken_at) WHERE (taken_at IS NOT NULL);


--
-- Name: data_builtin_1420c79e_width; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX data_builtin_1420c79e_width ON public.data_builtin_1420c79e USING btree (width);


--
-- Name: idx_procrastinate_jobs_worker_not_null; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idx_procrastinate_jobs_worker_not_null ON public.procrastinate_jobs USING btree (worker_id) WHERE ((worker_id IS NOT NULL) AND (status = 'doing'::public.procrastinate_job_status));


--
-- Name: idx_procrastinate_workers_last_heartbeat; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idx_procrastinate_workers_last_heartbeat ON public.procrastinate_workers USING btree (last_heartbeat);


--
-- Name: images_gone; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX images_gone ON public.images USING btree (id) WHERE (gone_at IS NOT NULL);


--
-- Name: images_newest; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX images_newest ON public.images USING btree (indexed_at DESC, id DESC);


--
-- Name: images_sha256; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX images_sha256 ON public.images USING btree (sha256);


--
-- Name: images_words; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX images_words ON public.images USING gin (words);


--
-- Name: job_items_captions; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX job_items_captions ON public.job_items USING btree (url) WHERE ((source = 'caption'::text) AND (state = 'waiting'::text));


--
-- Name: job_items_ended; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX job_items_ended ON public.job_items USING btree (job_id, ended_at DESC) WHERE (ended_at IS NOT NULL);


--
-- Name: job_items_postponed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX job_items_postponed ON public.job_items USING btree (job_id) WHERE ((state = 'waiting'::text) AND (not_before IS NOT NULL));


--
-- Name: job_items_state; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX job_items_state ON public.job_items USING btree (job_id, state, "position");


--
-- Name: procrastinate_events_job_id_fkey_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_events_job_id_fkey_v1 ON public.procrastinate_events USING btree (job_id);


--
-- Name: procrastinate_jobs_id_lock_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON public.procrastinate_jobs USING btree (id, lock) WHERE (status = ANY (ARRAY['todo'::public.procrastinate_job_status, 'doing'::public.procrastinate_job_status]));


--
-- Name: procrastinate_jobs_lock_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON public.procrastinate_jobs USING btree (lock) WHERE (status = 'doing'::public.procrastinate_job_status);


--
-- Name: procrastinate_jobs_priority_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_jobs_priority_idx_v1 ON public.procrastinate_jobs USING btree (priority DESC, id) WHERE (status = 'todo'::public.procrastinate_job_status);


--
-- Name: procrastinate_jobs_queue_name_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON public.procrastinate_jobs USING btree (queue_name);


--
-- Name: procrastinate_jobs_queueing_lock_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON public.procrastinate_jobs USING btree (queueing_lock) WHERE (status = 'todo'::public.procrastinate_job_status);


--
-- Name: procrastinate_periodic_defers_job_id_fkey_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON public.procrastinate_periodic_defers USING btree (job_id);


--
-- Name: queries_made_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX queries_made_at ON public.queries USING btree (made_at);


--
-- Name: job_items job_items_inserted; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER job_items_inserted AFTER INSERT ON public.job_items REFERENCING NEW TABLE AS new_items FOR EACH STATEMENT EXECUTE FUNCTION public.count_job_items();


--
-- Name: job_items job_items_updated; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER job_items_updated AFTER UPDATE ON public.job_items REFERENCING OLD TABLE AS old_items NEW TABLE AS new_items FOR EACH STATEMENT EXECUTE FUNCTION public.count_job_items();


--
-- Name: procrastinate_jobs procrastinate_jobs_notify_queue_job_aborted_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1 AFTER UPDATE OF abort_requested ON public.procrastinate_jobs FOR EACH ROW WHEN (((old.abort_requested = false) AND (new.abort_requested = true) AND (new.status = 'doing'::public.procrastinate_job_status))) EXECUTE FUNCTION public.procrastinate_notify_queue_abort_job_v1();


--
-- Name: procrastinate_jobs procrastinate_jobs_notify_queue_job_inserted_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 AFTER INSERT ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::public.procrastinate_job_status)) EXECUTE FUNCTION public.procrastinate_notify_queue_job_inserted_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_abort_requested_events_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1 AFTER UPDATE OF abort_requested ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.abort_requested = true)) EXECUTE FUNCTION public.procrastinate_trigger_abort_requested_events_procedure_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_delete_jobs_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1 BEFORE DELETE ON public.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION public.procrastinate_unlink_periodic_defers_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_scheduled_events_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_scheduled_events_v1 AFTER INSERT OR UPDATE ON public.procrastinate_jobs FOR EACH ROW WHEN (((new.scheduled_at IS NOT NULL) AND (new.status = 'todo'::public.procrastinate_job_status))) EXECUTE FUNCTION public.procrastinate_trigger_function_scheduled_events_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_status_events_insert_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_status_events_insert_v1 AFTER INSERT ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::public.procrastinate_job_status)) EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_status_events_update_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_status_events_update_v1 AFTER UPDATE OF status ON public.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_update_v1();


--
-- Name: job_counts job_counts_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_counts
    ADD CONSTRAINT job_counts_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;


--
-- Name: job_items job_items_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_items
    ADD CONSTRAINT job_items_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;


--
-- Name: procrastinate_events procrastinate_events_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_events
    ADD CONSTRAINT procrastinate_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.procrastinate_jobs(id) ON DELETE CASCADE;


--
-- Name: procrastinate_jobs procrastinate_jobs_worker_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES public.procrastinate_workers(id) ON DELETE SET NULL;


--
-- Name: procrastinate_periodic_defers procrastinate_periodic_defers_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.procrastinate_jobs(id);


--
-- PostgreSQL database dump complete
--


