// What all parts of the page need of the browser.

export const UNKNOWN = '–';

export const $ = (id) => document.getElementById(id);

// Writing the same text again would make a screen reader read it again.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Whether keys write into a field now.
export const isTyping = () => document.activeElement.matches('input:not([type="range"])');

// A browser may refuse to keep data; what is set then lasts for this visit.
export function remember(name, text) {
  try {
    localStorage.setItem(`roverd.${name}`, text);
  } catch {}
}

export function recall(name) {
  try {
    return localStorage.getItem(`roverd.${name}`) || '';
  } catch {
    return '';
  }
}
