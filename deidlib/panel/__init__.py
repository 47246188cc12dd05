"""The panel study: clinicians judge a release blind, and their answers become a report and a part of the audit.

In the order in which a study goes: ``settings`` (what the study asks), ``material`` (photographs of the release and,
where an arm needs them, originals), ``allocation`` (who sees what, and when), ``power`` and ``plan`` (how sure the
result will be), ``pages`` (a folder for each rater), ``design`` (all of it, written). Then ``answers`` (what raters
send back), ``agreement``, ``detection``, ``comparison`` and ``resampling`` (statistics over arrays), ``quality``
(raters who did not read), ``analysis``, ``figures``, ``report``; and ``summary``, by which the audit takes the result.
"""
