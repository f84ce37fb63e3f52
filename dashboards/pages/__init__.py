"""PAGES is the order of the navigation: what ran, a page an analysis, and what papers ask."""

from dashboards.pages import analyses, overview, studies

PAGES = (overview.page, *analyses.PAGES, studies.page)
