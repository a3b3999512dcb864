"""Continuous integration: from a push to pipelines, jobs, and the runners that carry them out.

reader       `.gitlab-ci.yml` as text -> stages and jobs, or the words of the linter; with documents (YAML,
             include, extends), keywords (what there is), conditions and expressions (rules, only, except)
pipelines    a push or a request -> a pipeline with its jobs, as the reader has them
progress     which job may start, what a pipeline comes to, what follows when a job ends; actions: what people do
runners      which runner may take which job, and why none does
payload      a job as a runner gets it; with predefined (variables) and caches (keys)
storage      logs and artifacts as files; logs: a log as HTML
views        how pipelines, jobs and runners are shown in the API
"""
