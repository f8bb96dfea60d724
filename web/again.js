// Who follows a link with a token from another site is asked for it all the
// same: a SameSite=Strict cookie is sent only with what our own pages ask for,
// and the redirect behind the link still counts as the other site's. This page
// is our own.
if (!new URLSearchParams(location.search).has('token')) {
  const { ok } = await fetch('state');
  if (ok) location.replace(location.href);
}
