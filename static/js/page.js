// What every page has.

import "./theme.js";
import "./notices.js";
import "./requests.js";
import "./dialog.js";
import "./copy.js";
import "./keys.js";
import "./menu.js";
import "./tabs.js";
