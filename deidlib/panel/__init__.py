"""The panel study: clinicians judge a release blind, and their answers become a report and a part of the audit.

Modules in the order of a study: ``settings`` (the study file), ``material`` (photographs of the release and, where an
arm needs them, originals), ``allocation`` (which rater sees which picture, and when), ``power`` and ``plan`` (sample
size), ``pages`` (a folder for each rater), ``design`` (writes all of it). Then ``answers`` (the raters' exported
files), ``agreement``, ``detection``, ``comparison`` and ``resampling`` (statistics over arrays), ``quality`` (careless
raters), ``analysis``, ``figures``, ``report``, and ``summary`` (the result as the audit takes it).
"""
