// Runs before the page is painted: light or dark as chosen here, or as the system says.
(() => {
  let theme = null;
  try { theme = localStorage.getItem('patchbay-theme'); } catch { /* no storage: as the system says */ }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
