"""One file a page; PAGES is the order of the navigation."""

from dashboards.pages import communication, memory_tiers, overview, roofline, stacks, studies

PAGES = (overview.page, roofline.page, memory_tiers.page, communication.page, stacks.page, studies.page)
