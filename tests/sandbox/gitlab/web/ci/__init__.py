"""Continuous integration: from a push to pipelines, jobs, and the runners that execute them.

reader       `.gitlab-ci.yml` as text -> stages and jobs, or the linter's messages; uses documents (YAML, include,
             extends), keywords (what is valid), conditions and expressions (rules, only, except)
pipelines    a push or a request -> a pipeline with its jobs
progress     which job may start, the status of a pipeline, what follows when a job ends; actions: retry, cancel, play
runners      which runner may take which job, and why none does
payload      a job as a runner receives it; uses predefined (variables) and caches (keys)
storage      logs and artifacts as files; logs: a log as HTML
views        pipelines, jobs and runners as JSON
"""
