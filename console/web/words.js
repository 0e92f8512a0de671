// Texts in the language of the screen. A key without a text shows itself, so that a gap is seen and not hidden.

export const LANGUAGES = { en: 'English', zh: '中文' };
let texts = {};
let present = 'en';

export async function speak(language) {
  const answer = await fetch(`/static/messages/${language}.json`);
  if (!answer.ok) throw new Error(`no texts for ${language}`);
  texts = await answer.json();
  present = language;
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll('[data-i18n]')) element.textContent = say(element.dataset.i18n);
  for (const element of document.querySelectorAll('[data-i18n-label]')) {
    element.setAttribute('aria-label', say(element.dataset.i18nLabel));
    if (element.type === 'search') element.placeholder = say(element.dataset.i18nLabel);
  }
}

export const language = () => present;

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

/** The text of a key; {name} in it is filled from `values`. */
export function say(key, values = {}) {
  return filled(texts[key] ?? key, values);
}

/** The text of a key, or the sentence that the controller sent when this language has none for it. */
export function sayOr(key, sentence, values = {}) {
  return key in texts ? filled(texts[key], values) : sentence;
}
