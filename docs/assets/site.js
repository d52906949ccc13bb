// What the theme leaves out for people who use a keyboard or a screen reader.
const reachable = () => {
  for (const part of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) part.tabIndex = 0
}
document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
new MutationObserver(reachable).observe(document.body, { childList: true, subtree: true })
reachable()
